"""Turn sources into conversations, accounting for every row: it is kept, or lost with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from finetune_exe.data.deduplicate import content_key
from finetune_exe.data.faults import FileNote, file_note
from finetune_exe.data.raw import BadLine, RawRow
from finetune_exe.data.sources import Source
from finetune_exe.domain.dataset import Drop
from finetune_exe.domain.task import FormatName
from finetune_exe.errors import FineTuneError
from finetune_exe.text.conversation import Conversation, RowFault
from finetune_exe.text.formats import format_named
from finetune_exe.text.formats.detect import Detection, detect_format
from finetune_exe.text.formats.format import Row

DETECTION_ROWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a row stands."""

    source: int
    """Number of its source, from 0."""
    index: int
    """Number of the row among all rows of all sources, from 0; unreadable ones count."""
    line: int | None
    place: str
    """file:line, for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRow:
    """A row that is a conversation."""

    position: Position
    conversation: Conversation
    key: str
    """What it says, as `content_key` names it."""
    raw: Row
    """As its file holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LostRow:
    """A row that cannot be used, and why."""

    position: Position
    fault: RowFault
    row: Row
    """The row, or the text of a line that is none."""
    of_index: int | None = None
    """For a duplicate: the row it repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRows:
    """One source, ready to be read once."""

    source: Source
    detection: Detection
    entries: Iterator[RawRow | BadLine]
    notes: list[FileNote] = field(default_factory=list)
    """What is unusual about the file as a whole; complete when the last entry has been taken."""


def open_sources(
    sources: Sequence[Source],
    *,
    format_name: FormatName | None,
    unreadable: list[FileNote] | None = None,
) -> tuple[SourceRows, ...]:
    """Begin to read every source and settle on the one format they all have.

    Args:
        sources: The files.
        format_name: Form of the rows; None looks for itself.
        unreadable: Where it is given, a file that holds no row or cannot be read is left out of the result and noted
            here, as `empty_file` or `unreadable_file`, instead of raised; with nothing but such files the result is
            empty.

    Raises:
        FineTuneError: D01, D02 for a file; D03 where the format is unknown or differs between files; D04 where no
            line of a file is a row.
    """
    opened = []
    for source in sources:
        try:
            opened.append(_open(source, format_name))
        except FineTuneError as fault:
            if unreadable is None or fault.code not in ("D01", "D02"):
                raise
            code = "empty_file" if fault.code == "D02" else "unreadable_file"
            unreadable.append(file_note(code, source.name, f"{fault.what}: {fault.why}", fix=fault.fix))
    names = {opening.detection.format.name: opening.source.name for opening in opened}
    if len(names) > 1:
        raise FineTuneError(
            "D03",
            what=f"the files have {len(names)} formats",
            where="; ".join(f"{file} is {name}" for name, file in names.items()),
            why="one dataset is read in one format",
            fix="convert them to one first: fine-tune dataset chatml FILE -o FILE.chatml.jsonl",
        )
    return tuple(opened)


def _open(source: Source, format_name: FormatName | None) -> SourceRows:
    notes: list[FileNote] = []
    entries = source.rows()
    sample = list(islice(entries, DETECTION_ROWS))
    rows = [entry.row for entry in sample if isinstance(entry, RawRow)]
    if format_name is not None:
        detection = Detection(format=format_named(format_name), evidence=("named beforehand",))
    elif rows:
        detection = detect_format(rows, where=source.name)
        if len(sample) == DETECTION_ROWS:
            looked = f"judged by the first {DETECTION_ROWS:,} rows"
            detection = Detection(format=detection.format, evidence=(*detection.evidence, looked))
    else:
        raise _no_row_left(source, sample)
    return SourceRows(source=source, detection=detection, entries=chain(sample, entries), notes=notes)


def ingest(opened: Iterable[SourceRows], *, deduplicate: bool) -> Iterator[KeptRow | LostRow]:
    """Yield every row of every source in order.

    Args:
        opened: The sources.
        deduplicate: Lose rows that repeat an earlier one, of any source.
    """
    first_seen: dict[str, Position] = {}
    index = 0
    for number, opening in enumerate(opened):
        for count, entry in enumerate(opening.entries, start=1):
            place = opening.source.place(entry, count)
            position = Position(source=number, index=index, line=entry.line, place=place)
            index += 1
            if isinstance(entry, BadLine):
                fault = RowFault(code=entry.code, message=entry.message, fix=entry.fix)
                yield LostRow(position=position, fault=fault, row=entry.text)
                continue
            read = opening.detection.format.read(entry.row)
            if not isinstance(read, RowFault):
                read = _nothing_to_learn(read) or read
            if isinstance(read, RowFault):
                yield LostRow(position=position, fault=read, row=entry.row)
                continue
            key = content_key(read)
            first = first_seen.setdefault(key, position)
            if deduplicate and first is not position:
                yield _duplicate(position, entry.row, first)
            else:
                yield KeptRow(position=position, conversation=read, key=key, raw=entry.row)


def count_drops(lost: Iterable[LostRow]) -> tuple[Drop, ...]:
    """Count lost rows by reason, most frequent first; message and fix are those of the first."""
    counts: Counter[str] = Counter()
    firsts: dict[str, LostRow] = {}
    for row in lost:
        counts[row.fault.code] += 1
        firsts.setdefault(row.fault.code, row)
    return tuple(
        Drop(
            code=code,
            count=count,
            first=firsts[code].position.place,
            message=firsts[code].fault.message,
            fix=firsts[code].fault.fix,
        )
        for code, count in counts.most_common()
    )


def _duplicate(position: Position, row: Row, first: Position) -> LostRow:
    fault = RowFault(
        code="exact_duplicate",
        message=f"the row says the same as {first.place}",
        fix="leave it out, or keep repeats with --set data.deduplicate=false",
    )
    return LostRow(position=position, fault=fault, row=row, of_index=first.index)


def _nothing_to_learn(conversation: Conversation) -> RowFault | None:
    """Find conversations without anything to learn from."""
    answers = [message for message in conversation.messages if message.role == "assistant" and message.learn]
    if not answers:
        return RowFault(
            code="no_assistant",
            message="the conversation has no assistant turn to learn from",
            fix="add the answer, or drop the row",
        )
    if all(message.content.strip() or message.extra for message in answers):
        return None
    if conversation.kind == "text":
        return RowFault(code="empty_text", message="the text is empty", fix="drop the row")
    return RowFault(code="empty_answer", message="an assistant turn is empty", fix="write the answer, or drop the row")


def _no_row_left(source: Source, sample: Sequence[RawRow | BadLine]) -> FineTuneError:
    worst = next(entry for entry in sample if isinstance(entry, BadLine))
    return FineTuneError(
        "D04",
        what=f"none of the first {len(sample):,} lines is a row",
        where=f"{source.name}, first at line {worst.line}",
        why=worst.message,
        fix=worst.fix,
    )
