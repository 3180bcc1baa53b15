"""Find out which format rows have, and say why."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from finetune_exe.errors import FineTuneError
from finetune_exe.text.formats import FORMATS
from finetune_exe.text.formats.completion import FOREIGN
from finetune_exe.text.formats.dialogue_marks import turns_in_columns
from finetune_exe.text.formats.format import Format, Row
from finetune_exe.text.formats.infer import Inferred, infer_columns
from finetune_exe.text.formats.nearest import nearest_format
from finetune_exe.text.formats.turns import ROLE_NAMES
from finetune_exe.text.formats.within import texts_within

CLEAR = 0.5
"""Share of the rows that the format of a file must fit."""
RIVAL = 0.25
"""Share of the rows at which a second format makes the file a mixture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """The format of a file, and why it and no other."""

    format: Format
    evidence: tuple[str, ...]


def detect_format(rows: Sequence[Row], *, where: str) -> Detection:
    """Find the one format that most of the rows have.

    Where no format knows the names of the columns, prompt and answer are found by what the columns hold, as long as
    one reading clearly leads.

    Args:
        rows: A sample of the file's rows, not empty.
        where: The file, for the message.

    Raises:
        FineTuneError: D03 where no format fits at least half of the rows, two fit a quarter of them, or each row
            is a single turn.
    """
    if len({_speaker(row) for row in rows}) > 1 and all(map(_speaker, rows)):
        raise FineTuneError(
            "D03",
            what="each row is a single turn, not a conversation",
            where=where,
            why="which turns belong together is not said in a form that is known",
            fix='put the turns of a conversation in one row: {"messages": [{"role": ..., "content": ...}, ...]}',
        )
    found = sorted(((entry.detect(rows), entry) for entry in FORMATS), key=lambda pair: -pair[0].score)
    (best, format_), (second, rival) = found[0], found[1]
    if best.score < CLEAR:
        inferred = infer_columns(rows)
        if inferred.format is None:
            raise _unknown(rows, inferred, where)
        return Detection(format=inferred.format, evidence=inferred.evidence)
    if second.score >= RIVAL:
        raise FineTuneError(
            "D03",
            what=f"the rows are a mixture of {format_.name} ({best.score:.0%}) and {rival.name} ({second.score:.0%})",
            where=where,
            why="reading them all as one would drop or misread the others",
            fix="put the rows of each format in a file of their own, or name one: --set data.format=" + format_.name,
        )
    return Detection(format=format_, evidence=best.phrases)


def format_of_row(row: Row) -> Format | None:
    """Find the one format that claims a single row."""
    claims = [entry for entry in FORMATS if entry.detect([row]).score]
    return claims[0] if len(claims) == 1 else None


def _speaker(row: Row) -> str | None:
    """Name who speaks in a row that is a turn by itself; None for any other."""
    if not isinstance(row, dict) or row.keys().isdisjoint(("content", "text", "value")) or not FOREIGN.isdisjoint(row):
        return None
    said = row.get("role", row.get("from"))
    return said if isinstance(said, str) and said in ROLE_NAMES else None


def _quoted(text: str) -> str:
    return text if text.replace(",", "").isidentifier() else f'"{text}"'


def _unknown(rows: Sequence[Row], inferred: Inferred, where: str) -> FineTuneError:
    keys = Counter(key for row in rows if isinstance(row, dict) for key in row)
    seen = ", ".join(f"{key[:60]} ({count / len(rows):.0%})" for key, count in keys.most_common(8)) or "no keys at all"
    if len(inferred.candidates) > 1:
        first, second = inferred.candidates[:2]
        return FineTuneError(
            "D03",
            what="it is not clear which column asks and which answers: which is it?",
            where=where,
            why=f"neither names nor contents of {', '.join(map(repr, inferred.candidates))} decide it",
            fix="say it while you give them names that are known, as in: "
            f"fine-tune dataset prompt_completion {shlex.quote(where)} --columns {_quoted(f'{first},{second}')} "
            "-o NEW.jsonl",
        )
    if (turns := turns_in_columns(rows)) is not None:
        return FineTuneError(
            "D03",
            what="questions and answers stand in one column: shall they be parted?",
            where=where,
            why=f"its texts are dialogues ({turns}); as texts, the questions would be learned too",
            fix=f"part them: fine-tune dataset chatml {shlex.quote(where)} --turns {shlex.quote(turns)} -o NEW.jsonl; "
            "to learn them whole, name the column 'text'",
        )
    if paths := texts_within(rows):
        return FineTuneError(
            "D03",
            what="two texts stand in one column: which of them asks, and which answers?",
            where=where,
            why=f"{paths[0]} and {paths[1]} do as well either way, as a text in two languages does",
            fix=f"say it: fine-tune dataset prompt_completion {shlex.quote(where)} --columns {','.join(paths)} "
            "-o NEW.jsonl",
        )
    near = nearest_format(rows[0])
    nearest = f"; {near.format.name} comes nearest: {near.missing}" if near else ""
    needed = (
        f"give the rows what {near.format.name} needs: {near.format.needs}"
        if near
        else "name the columns prompt and completion"
    )
    named = f"fine-tune dataset prompt_completion {shlex.quote(where)} --columns PROMPT,ANSWER -o NEW.jsonl"
    return FineTuneError(
        "D03",
        what=f"none of the {len(FORMATS)} formats fits the rows",
        where=where,
        why=f"the columns seen are: {seen}{nearest}",
        fix=needed if len(keys) < 2 else f"{needed}; or, where one column asks and one answers: {named}",
    )
