"""Take in the rows of a plan, once: kept ones go to shards on disk, lost ones to a file, and memory holds little."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from finetune_exe.data.account import Account
from finetune_exe.data.cleaning.cleaner import Cleaner
from finetune_exe.data.cleaning.policy import read_policy
from finetune_exe.data.duplicates.rows import RowText, join_rows, row_text, words_of_rows
from finetune_exe.data.ingest import SourceRows, ingest
from finetune_exe.data.rows import KeptRow, LostRow, Position
from finetune_exe.data.sides import LeakingRow, leaking_rows
from finetune_exe.data.split import draw_rows
from finetune_exe.data.spool import Spool, lost_line, read_spooled, write_lines
from finetune_exe.domain.dataset import SplitName
from finetune_exe.domain.plan import Plan
from finetune_exe.errors import FineTuneError
from finetune_exe.text.canaries import canaries
from finetune_exe.text.conversation import RowFault
from finetune_exe.text.formats.stored import to_json

if TYPE_CHECKING:
    from finetune_exe.data.duplicates.rows import RowWords

Progress = Callable[[str, int, int], None]
"""Called with the stage ("read", "encode", "write"), rows done, and rows in all (0 where not known yet)."""
PROGRESS_ROWS = 100
"""Rows between two such calls."""
NOT_DRAWN = RowFault(
    code="not_drawn", message="data.max_rows leaves it out of the draw", fix="raise data.max_rows to use it"
)
LEAKS = "leaks.jsonl"
WORDS_ROWS = 2000
"""Rows whose words are hashed at a time."""


class Intake:
    """What reading came to: kept rows in shards on disk, lost ones in a file, and what must be known of all.

    Args:
        work: An unfinished folder.
    """

    def __init__(self, work: Path) -> None:
        self.spool = Spool(work)
        self.lost = work / "lost.jsonl"
        self.seen: Counter[int] = Counter()
        """Rows read of each source."""
        self.account = Account()
        self.groups: list[str] = []
        """Of each kept row."""
        self.columns: list[str | None] = []
        """Of each kept row: its group, where its column names one."""
        self.sides: list[SplitName | None] = []
        """Of each kept row: the side its file is meant for."""
        self.positions: list[Position] = []
        """Of each kept row."""
        self.condemned: dict[int, RowFault] = {}
        """Of the kept rows, those that the plan's policy drops, by number."""
        self.leaks: list[LeakingRow] = []
        """Rows that give away others which are held out."""
        self._texts: list[RowText] = []
        self._words: list[RowWords] = []

    def keep(self, row: KeptRow, *, column: str | None, side: SplitName | None) -> None:
        """Take in a row.

        Args:
            row: The row.
            column: Its group, where a column names one.
            side: The side of the split its file is meant for.
        """
        self.groups.append(row.key if column is None else column)
        self.columns.append(column)
        self.sides.append(side)
        self.positions.append(row.position)
        self.spool.add(row, group=self.groups[-1])
        self._texts.append(row_text(row.conversation))
        if len(self._texts) == WORDS_ROWS:
            self._hash()

    @cached_property
    def words(self) -> RowWords:
        """The words of the kept rows, once all are read."""
        self._hash()
        parts, self._words = self._words, []
        return join_rows(parts)

    def _hash(self) -> None:
        self._words.append(words_of_rows(self._texts))
        self._texts.clear()


def take_in(
    opened: Sequence[SourceRows], sides: Sequence[SplitName | None], plan: Plan, work: Path, tell: Progress
) -> Intake:
    """Read all rows; the kept ones go into shards."""
    rows = Intake(work)
    cleaner = Cleaner(read_policy(plan.data))
    column = plan.data.group_by
    columns: Counter[str] = Counter()
    kinds: Counter[str] = Counter()

    def lost_lines() -> Iterator[dict[str, Any]]:
        for row in ingest(opened, deduplicate=plan.data.deduplicate, mend=cleaner.mend):
            rows.seen[row.position.source] += 1
            if rows.seen.total() % PROGRESS_ROWS == 0:
                tell("read", rows.seen.total(), 0)
            if isinstance(row, LostRow):
                rows.account.dropped.add(row.fault, index=row.position.index, place=row.position.place)
                yield lost_line(row)
                continue
            kinds[row.conversation.kind] += 1
            columns.update(row.conversation.extra.keys())
            named = row.conversation.extra.get(column) if column is not None else None
            cleaner.look(len(rows.groups), row.conversation)
            rows.keep(row, column=None if named is None else str(named), side=sides[row.position.source])

    write_lines(rows.lost, lost_lines())
    if rows.groups:
        _plant(rows, plan, kind="text" if kinds["text"] > kinds["chat"] else "chat", num_sources=len(opened))
    rows.spool.close()
    rows.condemned.update(cleaner.condemned([position.place for position in rows.positions]))
    tell("read", rows.seen.total(), rows.seen.total())
    if column is not None and rows.groups and not columns[column]:
        raise _no_column(column, columns)
    return rows


def _plant(rows: Intake, plan: Plan, *, kind: Literal["chat", "text"], num_sources: int) -> None:
    """Put the plan's canaries among the rows, for training alone; copies are not taken for duplicates."""
    for canary in canaries(plan.data.canaries, seed=plan.seed):
        for copy in range(canary.copies):
            place = f"planted canary {canary.name}, copy {copy + 1}"
            position = Position(source=num_sources, index=rows.seen.total(), place=place)
            row = KeptRow(position=position, conversation=canary.row(kind), key=canary.name)
            rows.keep(row, column=None, side="train")
            rows.seen[num_sources] += 1


def lost_canaries(rows: Intake, kept: Sequence[int], plan: Plan) -> Iterator[str]:
    """Say which planted secrets lost copies, as rows that are too long do."""
    groups = Counter(rows.groups[row] for row in kept)
    for canary in canaries(plan.data.canaries, seed=plan.seed):
        if groups[canary.name] < canary.copies:
            left = groups[canary.name]
            yield f"of the canary {canary.name}, {left} of {canary.copies} copies are left: see the drops"


def _no_column(column: str, columns: Counter[str]) -> FineTuneError:
    near = difflib.get_close_matches(column, columns, n=1)
    return FineTuneError(
        "D08",
        what=f"no row has a column {column!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        where="data.group_by",
        why=f"the columns beside the conversation are: {', '.join(sorted(columns)) or 'none'}",
        fix="name one of them, or --set data.group_by=null",
    )


def draw(rows: Intake, plan: Plan, work: Path) -> list[bool]:
    """Say which rows to use: not those that leak, nor more than wanted of those that no file holds out."""
    drawn = [True] * len(rows.groups)
    rows.leaks[:] = [
        leak for leak in leaking_rows(rows.words, rows.columns, rows.sides) if leak.row not in rows.condemned
    ]
    if plan.data.on_leak == "drop":
        write_lines(work / LEAKS, _leak_lines(rows))
        for leak in rows.leaks:
            drawn[leak.row] = False
    free = [row for row, side in enumerate(rows.sides) if side is None and drawn[row] and row not in rows.condemned]
    if plan.data.max_rows is not None:
        chosen = draw_rows([rows.groups[row] for row in free], max_rows=plan.data.max_rows, seed=plan.seed)
        for row in (row for row, wanted in zip(free, chosen, strict=True) if not wanted):
            drawn[row] = False
            position = rows.positions[row]
            rows.account.dropped.add(NOT_DRAWN, index=position.index, place=position.place)
    return drawn


def _leak_lines(rows: Intake) -> Iterator[dict[str, Any]]:
    """Count the rows that leak, and write them down; a shard is read once for all of its own."""
    leaks = iter(sorted(rows.leaks))
    leak = next(leaks, None)
    for shard in rows.spool.shards:
        after = shard.first + shard.num_rows
        if leak is None or leak.row >= after:
            continue
        for number, spooled in enumerate(read_spooled(shard.path), start=shard.first):
            if leak is None or leak.row >= after:
                break
            if number < leak.row:
                continue
            fault = leak.fault(rows.positions[leak.of_row].place)
            rows.account.dropped.add(fault, index=spooled.index, place=spooled.place)
            row = to_json(spooled.conversation)
            line = {"source": spooled.place, "code": fault.code, "message": fault.message, "row": row}
            yield {"index": spooled.index, "line": line}
            leak = next(leaks, None)
