"""Show what a plan's cleaning would do, and write nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from finetune_exe.data.account import Tally
from finetune_exe.data.cleaning.cleaner import Cleaner
from finetune_exe.data.cleaning.policy import read_policy
from finetune_exe.data.cleaning.repairs import FIX_MESSAGES
from finetune_exe.data.ingest import ingest, open_sources
from finetune_exe.data.rows import KeptRow, LostRow
from finetune_exe.data.sources import find_sources
from finetune_exe.domain.cleaning import CleaningPreview, Repaired, ShownRow
from finetune_exe.domain.plan import DataChoice, Plan
from finetune_exe.text.conversation import Conversation, RowFault

NUM_SHOWN = 3
"""Rows of each kind that are shown unless more are asked for."""


def preview_cleaning(plan: Plan, *, num_shown: int = NUM_SHOWN) -> CleaningPreview:
    """Count what would be dropped and repaired, and quote some of the rows.

    The files are read twice, so that memory holds the quoted rows only. Lengths and loss masks, which take a tokenizer,
    are not looked at, and no row is drawn.

    Args:
        plan: Its `data` group decides.
        num_shown: Rows quoted of each kind.

    Raises:
        FineTuneError: As `prepare` does for the data: C02, C05, D01 to D03, D07.
    """
    found = _look(plan.data)
    kinds = Counter[str]()
    quoted: dict[int, str] = {}
    for index, code in sorted((found.dropped | found.repaired).items()):
        kinds[code] += 1
        if kinds[code] <= num_shown:
            quoted[index] = code
    shown: dict[str, list[ShownRow]] = {}
    last = max(quoted, default=-1)
    for row in _read(plan.data, Cleaner(read_policy(plan.data))) if quoted else ():
        index = row.position.index
        if index in quoted:
            shown.setdefault(quoted[index], []).append(_show(row, dropped=index in found.dropped))
        if index >= last:
            break
    return CleaningPreview(
        inputs={"plan": plan.digest()},
        seen=found.seen,
        kept=found.seen - len(found.dropped),
        num_repaired=len(found.repaired),
        dropped=found.drops.drops(),
        repaired=tuple(
            Repaired(code=code, count=count, first=found.firsts[code], message=FIX_MESSAGES[code])
            for code, count in found.counts.most_common()
        ),
        shown={code: tuple(rows) for code, rows in shown.items()},
    )


@dataclass(slots=True)
class _Found:
    """What became of the rows, by their index among all of them."""

    seen: int = 0
    dropped: dict[int, str] = field(default_factory=dict)
    """Code of each row that would be dropped."""
    repaired: dict[int, str] = field(default_factory=dict)
    """First code of each row that would be kept repaired."""
    drops: Tally = field(default_factory=Tally)
    counts: Counter[str] = field(default_factory=Counter)
    firsts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Mended:
    """A row that was repaired."""

    place: str
    codes: tuple[str, ...]


def _look(data: DataChoice) -> _Found:
    """Read everything once, and decide."""
    cleaner = Cleaner(read_policy(data))
    found = _Found()
    faults: dict[int, tuple[str, RowFault]] = {}
    indices: list[int] = []
    places: list[str] = []
    mended: dict[int, _Mended] = {}
    for row in _read(data, cleaner):
        found.seen += 1
        position = row.position
        if isinstance(row, LostRow):
            faults[position.index] = (position.place, row.fault)
            continue
        if row.repairs:
            mended[position.index] = _Mended(position.place, tuple(repair.code for repair in row.repairs))
        cleaner.look(len(indices), row.conversation)
        indices.append(position.index)
        places.append(position.place)
    faults |= {indices[number]: (places[number], fault) for number, fault in cleaner.condemned(places).items()}
    for index, (place, fault) in sorted(faults.items()):
        found.dropped[index] = fault.code
        found.drops.add(fault, index=index, place=place)
    for index, row_mended in mended.items():
        if index not in found.dropped:
            found.repaired[index] = row_mended.codes[0]
            found.counts.update(row_mended.codes)
            for code in row_mended.codes:
                found.firsts.setdefault(code, row_mended.place)
    return found


def _read(data: DataChoice, cleaner: Cleaner) -> Iterator[KeptRow | LostRow]:
    opened = open_sources(find_sources(data.paths), format_name=data.format)
    return ingest(opened, deduplicate=data.deduplicate, mend=cleaner.mend)


def _show(row: KeptRow | LostRow, *, dropped: bool) -> ShownRow:
    place = row.position.place
    if isinstance(row, LostRow):
        held = row.row if isinstance(row.row, str) else json.dumps(row.row, ensure_ascii=False, default=str)
        return ShownRow(source=place, before=(held,))
    before = _said(row.repairs[0].before if row.repairs else row.conversation)
    return ShownRow(source=place, before=before, after=None if dropped else _said(row.conversation))


def _said(conversation: Conversation) -> tuple[str, ...]:
    if conversation.kind == "text":
        return tuple(message.content for message in conversation.messages)
    turns = (*conversation.messages, *conversation.rejected)
    return tuple(f"{message.role}: {message.content}" for message in turns)
