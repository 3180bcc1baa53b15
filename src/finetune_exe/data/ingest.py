"""Turn sources into conversations, accounting for every row: it is kept, or lost with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from finetune_exe.data.deduplicate import content_key
from finetune_exe.data.faults import FAULTS, FileNote, Tell, file_note, insist
from finetune_exe.data.layout import empty_answer_code
from finetune_exe.data.raw import BadLine, RawRow
from finetune_exe.data.rows import KeptRow, LostRow, Mend, Mended, Position, Repair
from finetune_exe.data.sources import Source
from finetune_exe.domain.task import FormatName
from finetune_exe.errors import FineTuneError
from finetune_exe.text.conversation import Conversation, RowFault
from finetune_exe.text.formats import format_named
from finetune_exe.text.formats.detect import Detection, detect_format, format_of_row
from finetune_exe.text.formats.format import Format, Row
from finetune_exe.text.formats.infer import infer_columns, with_columns
from finetune_exe.text.formats.marked_turns import TurnForm, with_turns
from finetune_exe.text.formats.within import WithinColumn

DETECTION_ROWS = 1000
"""Rows from which the format is told."""
FOREIGN_ROW = ("missing_key", "mixed_keys_in_one_conversation")
"""Faults that a row of another layout shows."""
MOST_OPEN = 8
"""Files that stay open between the sample and the rest of their rows; some systems allow 256 in all."""
MIN_ROWS_FOR_KEYS = 20
"""Fewer rows show no usual keys: a key in one of them is no rare one."""
RARE_KEY = 0.05
"""Share of the rows up to which a column is an oddity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRows:
    """One source, ready to be read once."""

    source: Source
    detection: Detection
    entries: Iterator[RawRow | BadLine]
    usual_keys: frozenset[str] | None = None
    """Columns that most rows have, or many; None where there are too few rows to tell."""
    notes: list[FileNote] = field(default_factory=list)
    """What is unusual about the file as a whole; complete when the last entry has been taken."""


def open_sources(
    sources: Sequence[Source],
    *,
    format_name: FormatName | None,
    columns: Mapping[str, str] | None = None,
    turns: TurnForm | None = None,
    unreadable: list[FileNote] | None = None,
    preferences: bool = False,
) -> tuple[SourceRows, ...]:
    """Begin to read every source and settle on the one format they all have.

    Args:
        sources: The files.
        format_name: Form of the rows; None looks for itself.
        columns: Which columns hold "prompt" and "answer", where the user has said so.
        turns: Form in which turns stand in a text of each row, where the user has said so.
        unreadable: Where it is given, a file that holds no row or cannot be read is left out of the result and noted
            here, as `empty_file` or `unreadable_file`, instead of raised; with nothing but such files the result is
            empty. What is lost of a damaged file is then a note in `SourceRows.notes`, not an error either, and a
            file with broken lines only gives those.
        preferences: Take pairs of a chosen and a rejected answer too; otherwise they must be named by `format_name`.

    Raises:
        FineTuneError: D01, D02 for a file; D03 where the format is unknown, differs between files, or is one of
            pairs that nobody asked for; D04 where no line of a file is a row.
    """
    opened = []
    for number, source in enumerate(sources):
        try:
            opening = _open(
                source,
                format_name,
                columns or {},
                turns,
                tolerant=unreadable is not None,
                stays_open=number < MOST_OPEN or source.path is None,
            )
        except FineTuneError as fault:
            if unreadable is None or fault.code not in ("D01", "D02"):
                raise
            code = "empty_file" if fault.code == "D02" else "unreadable_file"
            unreadable.append(file_note(code, source.name, f"{fault.what}: {fault.why}", fix=fault.fix))
            continue
        if opening.detection.format.name == "preference" and format_name is None and not preferences:
            raise _not_asked_for(source)
        opened.append(opening)
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


def _open(
    source: Source,
    format_name: FormatName | None,
    columns: Mapping[str, str],
    turns: TurnForm | None,
    *,
    tolerant: bool,
    stays_open: bool,
) -> SourceRows:
    notes: list[FileNote] = []

    def tell(note: FileNote) -> None:
        if not tolerant:
            insist(note)
        if note not in notes:  # a file that is opened twice tells some of them twice
            notes.append(note)

    entries = source.rows(tell)
    sample = list(islice(entries, DETECTION_ROWS))
    rows = [entry.row for entry in sample if isinstance(entry, RawRow)]
    if not rows and not tolerant:
        raise _no_row_left(source, sample)
    return SourceRows(
        source=source,
        detection=_settle(source, rows, format_name, columns, turns),
        usual_keys=_usual_keys(rows),
        entries=chain(sample, entries) if stays_open else _reopened(source, sample, tell),
        notes=notes,
    )


def _reopened(source: Source, sample: Sequence[RawRow | BadLine], tell: Tell) -> Iterator[RawRow | BadLine]:
    """Give the rows that were looked at, then the others, for which the file is opened again."""
    yield from sample
    if len(sample) == DETECTION_ROWS:
        yield from islice(source.rows(tell), DETECTION_ROWS, None)


def _with_named(prompt: str, answer: str, rows: Sequence[Row]) -> Format:
    """Read two columns that the user named, or what stands within a column under names with a dot."""
    inner = with_columns(prompt, answer)
    paths = tuple(name for name in (prompt, answer) if "." in name and not any(name in row for row in rows))
    return WithinColumn(inner=inner, paths=paths) if paths else inner


def _settle(
    source: Source,
    rows: Sequence[Row],
    format_name: FormatName | None,
    columns: Mapping[str, str],
    turns: TurnForm | None,
) -> Detection:
    """Choose the format: by the marks, the columns or the name the user gave, or else by the rows."""
    if turns is not None:
        if all(isinstance(row, str) for row in rows):
            raise _not_divided(source)
        parted = with_turns(turns)
        return Detection(format=parted, evidence=parted.detect(rows).phrases)
    if {"prompt", "answer"} <= columns.keys():
        named = f"{columns['prompt']!r} is the prompt and {columns['answer']!r} the answer, as you said"
        return Detection(format=_with_named(columns["prompt"], columns["answer"], rows), evidence=(named,))
    if not rows:
        return Detection(format=format_named(format_name or "completion"), evidence=("there is no row to judge by",))
    if format_name is not None:
        named_format = format_named(format_name)
        if format_name == "prompt_completion" and not named_format.detect(rows).score:
            inferred = infer_columns(rows)
            if inferred.format is not None:
                return Detection(format=inferred.format, evidence=("named beforehand", *inferred.evidence))
        return Detection(format=named_format, evidence=("named beforehand",))
    detection = detect_format(rows, where=source.name)
    if len(rows) < DETECTION_ROWS:
        return detection
    looked = f"judged by the first {DETECTION_ROWS:,} rows"
    return Detection(format=detection.format, evidence=(*detection.evidence, looked))


def _usual_keys(rows: Sequence[Row]) -> frozenset[str] | None:
    """Name the columns that are no oddity; None where there are too few rows to tell."""
    objects = [row for row in rows if isinstance(row, dict)]
    if len(objects) < MIN_ROWS_FOR_KEYS:
        return None
    counts = Counter(key for row in objects for key in row)
    return frozenset(key for key, count in counts.items() if count > RARE_KEY * len(objects))


def read_entry(entry: RawRow | BadLine, opening: SourceRows) -> Conversation | RowFault:
    """Read a row in its file's format, or in the one other that claims it; what is odd about it is noted."""
    if isinstance(entry, BadLine):
        return RowFault(code=entry.code, message=entry.message, fix=entry.fix)
    notes = entry.notes
    read = opening.detection.format.read(entry.row)
    if isinstance(read, RowFault):
        if read.code == "null_content" and "nan_literal" in notes:
            return RowFault(code="nan_literal", message=FAULTS["nan_literal"].meaning, fix=read.fix)
        other = format_of_row(entry.row) if read.code in FOREIGN_ROW else None
        if other is None or other.name == opening.detection.format.name:
            return read
        again = other.read(entry.row)
        if isinstance(again, RowFault):
            return read
        foreign = {opening.detection.format.name, other.name} == {"chatml", "sharegpt"}
        notes = (*notes, "sharegpt_schema_in_messages_file" if foreign and other.name == "sharegpt" else "schema_mixed")
        read = again
    if opening.usual_keys is not None:
        if isinstance(entry.row, dict) and not opening.usual_keys.issuperset(read.extra.keys() & entry.row.keys()):
            notes = (*notes, "unknown_key")
        if not opening.usual_keys.issuperset(read.origin.get("columns", {}).values()) and "schema_mixed" not in notes:
            notes = (*notes, "schema_mixed")
    return replace(read, notes=(*notes, *read.notes)) if notes else read


def ingest(opened: Iterable[SourceRows], *, deduplicate: bool, mend: Mend = Mended) -> Iterator[KeptRow | LostRow]:
    """Yield every row of every source in order.

    Args:
        opened: The sources.
        deduplicate: Lose rows that repeat an earlier one, of any source.
        mend: Repairs a row before it is judged or compared.
    """
    first_seen: dict[str, Position] = {}
    index = 0
    for number, opening in enumerate(opened):
        for count, entry in enumerate(opening.entries, start=1):
            place = opening.source.place(entry, count)
            position = Position(source=number, index=index, place=place)
            index += 1
            read = read_entry(entry, opening)
            repairs: tuple[Repair, ...] = ()
            if not isinstance(read, RowFault):
                read, repairs = mend(read)
                read = _nothing_to_learn(read) or read
            if isinstance(read, RowFault):
                yield LostRow(position=position, fault=read, row=_held(entry))
                continue
            key = content_key(read)
            first = first_seen.setdefault(key, position)
            if deduplicate and first is not position:
                yield LostRow(position=position, fault=_duplicate_of(first), row=_held(entry))
            else:
                yield KeptRow(position=position, conversation=read, key=key, repairs=repairs)


def _held(entry: RawRow | BadLine) -> Row:
    """Give what there is of a row, for `rejected.jsonl`."""
    if isinstance(entry, RawRow):
        return entry.row
    return entry.text if entry.row is None else entry.row


def _duplicate_of(first: Position) -> RowFault:
    return RowFault(
        code="exact_duplicate",
        message=f"the row says the same as {first.place}",
        fix="leave it out, or keep repeats with --set data.deduplicate=false",
    )


def _nothing_to_learn(conversation: Conversation) -> RowFault | None:
    """Find conversations without anything to learn from."""
    if conversation.label is False:
        return RowFault(
            code="rejected_answer",
            message="the row marks its own answer as a bad one (label: false)",
            fix="keep only the rows with label true, or train on preferences with another tool",
        )
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
    return RowFault(
        code=empty_answer_code(conversation),
        message="an assistant turn is empty",
        fix="write the answer, or drop the row",
    )


def _not_asked_for(source: Source) -> FineTuneError:
    return FineTuneError(
        "D03",
        what="the rows are pairs of a chosen and a rejected answer",
        where=source.name,
        why="they can teach which of two answers is better, or the chosen ones alone what to answer: you have to say",
        fix="to learn from the pairs: --set objective.kind=dpo; to train on the chosen answers alone: "
        "--set data.format=preference",
    )


def _not_divided(source: Source) -> FineTuneError:
    return FineTuneError(
        "D03",
        what="where a dialogue ends and the next begins is not known",
        where=source.name,
        why="neither each line nor each paragraph is a dialogue by itself",
        fix="put each dialogue on a line of its own, or blank lines between dialogues and none inside; or give JSON "
        "lines with each in a column",
    )


def _no_row_left(source: Source, sample: Sequence[RawRow | BadLine]) -> FineTuneError:
    worst = next(entry for entry in sample if isinstance(entry, BadLine))
    return FineTuneError(
        "D04",
        what=f"none of the first {len(sample):,} lines is a row",
        where=f"{source.name}, first at line {worst.line}",
        why=worst.message,
        fix=worst.fix,
    )
