"""Look at rows one by one, in as many processes as there are cores: the same rows give the same result in any number."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from typing import NamedTuple

from finetune_exe.data.checks import ROW_CHECKS
from finetune_exe.data.checks.check import Hit
from finetune_exe.data.checks.facts import Facts, RowFacts, measure, tabulate
from finetune_exe.data.checks.row import Layout, RowView
from finetune_exe.data.raw import RawRow
from finetune_exe.domain.task import FormatName
from finetune_exe.text.conversation import Conversation, RowFault
from finetune_exe.text.formats import format_named

CHUNK_ROWS = 2000
_WAITING = 2
"""Chunks in flight for each process: enough to keep it busy, few enough to need no memory."""


class NumberedRow(NamedTuple):
    """A record and its number among all records."""

    index: int
    raw: RawRow


class Fault(NamedTuple):
    """A record that cannot be read as a row."""

    index: int
    fault: RowFault


Prove = Callable[[Conversation], RowFault | None]
"""Finds a fault that only the model's tokenizer shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a look at some rows gave."""

    hits: dict[str, list[Hit]]
    """Rows by the code of the check that found them."""
    notes: dict[str, list[int]]
    """Rows by the code of what was odd about them when they were read."""
    faults: list[Fault]
    facts: Facts


def survey_rows(rows: Sequence[NumberedRow], *, format_name: FormatName, prove: Prove | None = None) -> Survey:
    """Read rows in a format and run every check that needs one row alone."""
    read = format_named(format_name).read
    hits: defaultdict[str, list[Hit]] = defaultdict(list)
    notes: defaultdict[str, list[int]] = defaultdict(list)
    faults: list[Fault] = []
    indices: list[int] = []
    facts: list[RowFacts] = []
    layouts: set[Layout] = set()
    for index, raw in rows:
        conversation = read(raw.row)
        if isinstance(conversation, RowFault):
            faults.append(Fault(index, conversation))
            continue
        for code in dict.fromkeys((*getattr(raw, 'notes', ()), *conversation.notes)):
            notes[code].append(index)
        view = RowView(conversation)
        sound = True
        for check in ROW_CHECKS:
            extract = check.find(view)
            if extract is not None:
                hits[check.code].append(Hit(index, extract))
                sound = sound and check.severity != "error"
        if prove is not None and sound and (unproven := prove(conversation)) is not None:
            faults.append(Fault(index, unproven))
        indices.append(index)
        facts.append(measure(view))
        layouts.add(view.layout)
    return Survey(hits=dict(hits), notes=dict(notes), faults=faults, facts=tabulate(indices, facts, layouts))


def survey_all(
    rows: Iterable[NumberedRow], *, format_name: FormatName, workers: int, prove: Prove | None = None
) -> Iterator[Survey]:
    """Survey rows chunk by chunk, in their order.

    Args:
        rows: The records.
        format_name: Format they are in.
        workers: Processes; with 1, or with `prove`, the work is done in this one.
        prove: A further check of each row that is sound so far.
    """
    chunks = iter(lambda: list(islice(source, CHUNK_ROWS)), [])
    source = iter(rows)
    if workers < 2 or prove is not None:
        yield from (survey_rows(chunk, format_name=format_name, prove=prove) for chunk in chunks)
        return
    work = partial(survey_rows, format_name=format_name)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting: list[Future[Survey]] = [pool.submit(work, chunk) for chunk in islice(chunks, _WAITING * workers)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(work, chunk) for chunk in islice(chunks, 1)]


def available_workers() -> int:
    """Count the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

