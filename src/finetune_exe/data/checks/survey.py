"""Look at rows one by one, in several processes where there are many; the result is the same for any number."""

from __future__ import annotations

import gc
import os
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from typing import NamedTuple

from finetune_exe.data.checks import ROW_CHECKS_OF
from finetune_exe.data.checks.check import Hit
from finetune_exe.data.checks.facts import Facts, tabulate
from finetune_exe.data.checks.row import RowView, without_ends
from finetune_exe.data.ingest import SourceRows, read_entry
from finetune_exe.data.processes import start_method
from finetune_exe.data.raw import BadLine, RawRow
from finetune_exe.text.conversation import Conversation, RowFault

CHUNK_ROWS = 2000
"""Rows that a process takes at a time, for speed alone."""
_WAITING = 2
"""Chunks in flight for each process: enough to keep it busy, few enough to need no memory."""


class Chunk(NamedTuple):
    """Records that stand one after the other in a file."""

    first: int
    """Number of the first among all records."""
    entries: list[RawRow | BadLine]
    opening: SourceRows
    """How the file is read; its own entries are left out."""


class Fault(NamedTuple):
    """A record that cannot be read as a row."""

    row: int
    """Number of the record."""
    fault: RowFault


Prove = Callable[[Sequence[Conversation]], list[RowFault | None]]
"""Finds for each row the fault that only the model's tokenizer shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a look at some rows gave."""

    hits: dict[str, list[Hit]]
    """Rows by the code of the check that found them."""
    notes: dict[str, list[int]]
    """Rows by the code of what was odd about them when they were read."""
    faults: list[Fault]
    facts: Facts


def survey_rows(chunk: Chunk, *, prove: Prove | None = None) -> Survey:
    """Read records in the format of their file and run every check that needs one row alone."""
    hits: defaultdict[str, list[Hit]] = defaultdict(list)
    notes: defaultdict[str, list[int]] = defaultdict(list)
    faults: list[Fault] = []
    indices: list[int] = []
    views: list[RowView] = []
    sound_rows: list[int] = []
    sound_conversations: list[Conversation] = []
    for index, entry in enumerate(chunk.entries, start=chunk.first):
        conversation = read_entry(entry, chunk.opening)
        if isinstance(conversation, RowFault):
            faults.append(Fault(index, conversation))
            continue
        for code in conversation.notes:
            notes[code].append(index)
        view = RowView(conversation)
        sound = True
        for check in ROW_CHECKS_OF[view.layout]:
            extract = check.find(view)
            if extract is not None:
                hit = Hit(index, extract, likely=extract.startswith(check.likely))
                hits[check.code].append(hit)
                sound = sound and (hit.likely or check.severity != "error")
        if sound:
            sound_rows.append(index)
            sound_conversations.append(conversation)
        indices.append(index)
        views.append(without_ends(view) or view)
    if prove is not None:
        proven = zip(sound_rows, prove(sound_conversations), strict=True)
        faults += [Fault(index, fault) for index, fault in proven if fault is not None]
    return Survey(hits=dict(hits), notes=dict(notes), faults=faults, facts=tabulate(indices, views))


def survey_all(chunks: Iterable[Chunk], *, workers: int, prove: Prove | None = None) -> Iterator[Survey]:
    """Survey chunk by chunk, in their order.

    Args:
        chunks: The records.
        workers: Processes; with 1, or with `prove`, the work is done in this one.
        prove: A further check of each row that is sound so far.
    """
    if workers < 2 or prove is not None:
        yield from (survey_rows(chunk, prove=prove) for chunk in chunks)
        return
    source = iter(chunks)
    with ProcessPoolExecutor(workers, get_context(start_method()), _collect_by_hand) as pool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of numpy, idle: see `start_method`
            waiting = deque(pool.submit(_survey_chunk, chunk) for chunk in islice(source, _WAITING * workers))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(_survey_chunk, chunk) for chunk in islice(source, 1))


def _collect_by_hand() -> None:
    """Let no round of garbage collection look at all that a process begins with, as some do every few chunks."""
    gc.freeze()
    gc.disable()


def _survey_chunk(chunk: Chunk) -> Survey:
    survey = survey_rows(chunk)
    gc.collect()
    return survey


def available_workers() -> int:
    """Count the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
