"""Convert data from one format to another, row by row, losing nothing silently."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from finetune_exe.data.account import Tally
from finetune_exe.data.faults import FAULTS
from finetune_exe.data.ingest import open_sources, read_entry
from finetune_exe.data.sources import find_sources
from finetune_exe.domain.dataset import Alteration, Drop
from finetune_exe.domain.task import FormatName
from finetune_exe.text.conversation import Conversation, RowFault
from finetune_exe.text.formats import format_named
from finetune_exe.text.formats.dialogue_marks import turns_in
from finetune_exe.text.formats.format import Format, Row
from finetune_exe.text.formats.marked_turns import TurnForm
from finetune_exe.text.thinking import Place, moved

_NOTED = ("call_as_text", "part_read", "nan_literal", "duplicate_key")
"""Notes that no other format mends, as it does other names and layouts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What became of the rows: seen is written plus dropped."""

    source_format: FormatName
    seen: int
    written: int
    dropped: tuple[Drop, ...]
    """Why rows are missing."""
    noted: tuple[Alteration, ...]
    """What holds of rows that were written: that not all of them was, or that a call is still text."""


def convert(
    paths: Sequence[str],
    *,
    target: FormatName,
    write: Callable[[Row], None],
    format_name: FormatName | None = None,
    columns: Mapping[str, str] | None = None,
    turns: TurnForm | None = None,
    thinking: Place | None = None,
) -> Conversion:
    """Read rows in whatever format they have and hand them on in another, one at a time.

    Args:
        paths: Files, folders, patterns, hub datasets, or "stdlib".
        target: Format wanted.
        write: Called with each row in that format, in order.
        format_name: Form of the rows; None looks for itself.
        columns: Which columns hold "prompt" and "answer", where names and contents do not say so.
        turns: Form in which turns stand in a text of each row.
        thinking: Where what answers think goes; None leaves it where it is.

    Raises:
        FineTuneError: C05, D01 to D04, D07 or X01 where the data cannot be read at all.
    """
    opened = open_sources(find_sources(paths), format_name=format_name, columns=columns, turns=turns, preferences=True)
    writer = format_named(target)
    dropped, noted = Tally(), Tally()
    seen = written = 0
    for opening in opened:
        for number, entry in enumerate(opening.entries, start=1):
            seen += 1
            read = read_entry(entry, opening)
            if thinking is not None and not isinstance(read, RowFault):
                read = moved(read, thinking)
            result = read if isinstance(read, RowFault) else _written(read, writer)
            if isinstance(result, RowFault):
                dropped.add(result, index=seen, place=opening.source.place(entry, number))
                continue
            write(result)
            written += 1
            for code in () if isinstance(read, RowFault) else read.notes:
                if code in _NOTED:
                    note = RowFault(code=code, message=FAULTS[code].meaning, fix="")
                    noted.add(note, index=seen, place=opening.source.place(entry, number))
    return Conversion(
        source_format=opened[0].detection.format.name, seen=seen, written=written, dropped=dropped.drops(),
        noted=noted.alterations(),
    )  # fmt: skip


def _written(conversation: Conversation, writer: Format) -> Row | RowFault:
    """Write a row; of a dialogue in a text that has no place in a format for turns, say how to part it."""
    written = writer.write(conversation)
    if conversation.kind == "chat" or not isinstance(written, RowFault):
        return written
    said = turns_in(conversation.messages[0].content)
    return written if said is None else replace(written, fix=f"part it: --turns {shlex.quote(said)}")
