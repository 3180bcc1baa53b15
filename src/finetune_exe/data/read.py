"""Read rows out of a file, whatever it is called: what is inside decides."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from finetune_exe.data.columnar import read_arrow, read_parquet
from finetune_exe.data.csv_rows import find_delimiter, read_csv
from finetune_exe.data.encoding import Head, decode, read_head, unreadable, utf8_lines
from finetune_exe.data.faults import FileNote, Tell, file_note, insist
from finetune_exe.data.json_documents import WRAPPERS, read_document, wraps_rows
from finetune_exe.data.json_lines import read_json_lines
from finetune_exe.data.packing import PACKED_SUFFIXES
from finetune_exe.data.raw import BadLine, RawRow
from finetune_exe.data.tagged_lines import are_word_tags, dialogue_rows, labelled_rows, read_tagged_words
from finetune_exe.errors import FineTuneError

Container = Literal["json", "jsonl", "csv", "text", "parquet", "arrow", "tagged words"]
NAMES: dict[Container, str] = {
    "json": "one JSON value", "jsonl": "JSON lines", "csv": "a table", "text": "plain text", "parquet": "Parquet",
    "arrow": "Arrow", "tagged words": "words with tags",
}  # fmt: skip
SUFFIXES: dict[str, Container] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".jsonlines": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "csv",
    ".tab": "csv", ".psv": "csv", ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
    ".txt": "text", ".md": "text", ".markdown": "text", ".text": "text", ".rst": "text", ".conll": "tagged words",
    ".iob": "tagged words", ".bio": "tagged words",
}  # fmt: skip
"""What a file of that name promises to be."""
TEXT_SUFFIXES = tuple(suffix for suffix, container in SUFFIXES.items() if container == "text")
KNOWN_COLUMNS = frozenset({
    "instruction", "input", "context", "output", "prompt", "completion", "question", "answer", "query", "response",
    "text", "label", "category", "intent", "sentence", "source", "target", "id", "system", "chosen", "rejected",
})  # fmt: skip
"""Names by which the header of a table is known."""
SECTION_CHARACTERS = 20_000
"""Most that a section need have: about 4,500 tokens of English."""
SECTIONS_WANTED = 30
"""Sections that a shorter text is cut into, so that a tenth, held out, is three of them."""
RECORDS_WANTED = 100
"""Fewer lines do not show that each is a text by itself: a poem or a list may be as long."""
RECORD_CHARACTERS = 2000
"""A longer line is a paragraph of a text."""
ENDS = ".!?;:)\"'\u2026\u3002\uff01\uff1f\u06d4\u061f\u0964\u201d\u00bb"
"""Marks that sentences end in, in several scripts."""
_SCALAR = r'(?:"(?:[^"\\]|\\.)*"|-?[\d.eE+-]+|true|false|null)'
_WRAPPED = re.compile(
    r'\s*\{\s*(?:"(?:[^"\\]|\\.)*"\s*:\s*' + _SCALAR + r'\s*,\s*)*"(?:' + "|".join(WRAPPERS) + r')"\s*:\s*\[\s*\{'
)


class _Sniffed(NamedTuple):
    container: Container
    start: str
    """The beginning of the text, as far as it is certain."""


def read_rows(path: Path, tell: Tell = insist) -> Iterator[RawRow | BadLine]:
    """Yield every row of a file in order, and every place where a row should be and is none.

    JSON lines, JSON arrays, tables, Parquet and Arrow are streamed. A plain text is one document, given in sections
    of whole paragraphs so that parts of it can be held out, unless each of its lines is a record by itself.

    Args:
        path: The file.
        tell: Told what is unusual about the file as a whole.

    Raises:
        FineTuneError: D01 where the file as a whole cannot be read, D02 where it holds no row.
    """
    head = read_head(path)
    sniffed = _sniff(head, path)
    for note in _name_notes(path, head, sniffed.container):
        tell(note)
    empty = True
    for entry in _rows(path, sniffed, tell):
        empty = False
        yield entry
    if empty:
        raise FineTuneError(
            "D02",
            what="the file holds no row",
            where=str(path),
            why="it is empty, or has nothing but blank lines or a header",
            fix="give a file with rows, or take it out of the folder",
        )


def _rows(path: Path, sniffed: _Sniffed, tell: Tell) -> Iterator[RawRow | BadLine]:
    match sniffed.container:
        case "parquet":
            return read_parquet(path)
        case "arrow":
            return read_arrow(path)
        case "json":
            return read_document(path, tell)
        case "jsonl":
            return read_json_lines(path, tell)
        case "csv":
            return read_csv(path, tell, start=sniffed.start)
        case "tagged words":
            return read_tagged_words(utf8_lines(path, tell))
        case "text":
            return _read_text(path, tell)


def _name_notes(path: Path, head: Head, container: Container) -> Iterator[FileNote]:
    """Compare what the file's name promises with what it holds."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] in PACKED_SUFFIXES
    if head.packing is not None and (not packed or suffixes[-1] not in head.packing.suffixes):
        why = f"the file is compressed with {head.packing.name}, which its name does not say"
        yield file_note("wrong_extension", path, why, fix=f"call it {path.name}{head.packing.suffixes[0]}")
    elif head.packing is None and packed:
        yield file_note("wrong_extension", path, "the file is not compressed, though its name says so")
    promised = SUFFIXES.get(inner_suffix(path))
    if promised is not None and promised != container and head.content.strip():
        usual = next(suffix for suffix, held in SUFFIXES.items() if held == container)
        why = f"the file holds {NAMES[container]}, not {NAMES[promised]}"
        yield file_note("wrong_extension", path, why, fix=f"let its name end with {usual}")


def inner_suffix(path: Path) -> str:
    """Give the suffix that says what a file holds, whatever it is packed in; in small letters."""
    return next((s for s in reversed([s.lower() for s in path.suffixes]) if s not in PACKED_SUFFIXES), "")


def _sniff(head: Head, path: Path) -> _Sniffed:
    content = head.content
    if head.codec == "binary":
        if head.packing is not None:
            raise unreadable(path, f"it is a table compressed with {head.packing.name}", "unpack it first")
        return _Sniffed("parquet" if content.startswith(b"PAR1") else "arrow", "")
    text = content.decode(errors="replace")
    if "\n" not in text:
        text = text.replace("\r", "\n")
    if not head.whole and "\n" in text:
        text = text[: text.rindex("\n") + 1]
    lines = [line for line in text.split("\n", 200) if line.strip()][:20]
    return _Sniffed(_container(lines, text, path, whole=head.whole), text)


def _container(lines: list[str], text: str, path: Path, *, whole: bool) -> Container:
    promised = SUFFIXES.get(inner_suffix(path))
    if not lines:
        return promised if promised in ("csv", "text") else "jsonl"
    if are_word_tags(lines):
        return "tagged words"
    start = lines[0].lstrip()[:1]
    values = [_parsed(line) for line in lines[:2]]
    if promised == "text" and not _is_data(lines, values, text, whole=whole):
        return "text"
    if promised == "csv" and not isinstance(values[0], dict | list):
        return "csv"
    if values[0] is _NOT_JSON and _are_behind_a_broken_line(lines, promised):
        return "jsonl"
    if start in ("{", "["):
        return _json_container(lines, values, text, promised, whole=whole)
    if values[0] is not _NOT_JSON:
        return "jsonl"
    if find_delimiter(text.splitlines(keepends=True)[:100]) and len(lines) > 1:
        return "csv"
    if promised == "jsonl" or re.match(r"\s*(//|#)", lines[0]):
        return "jsonl"
    raise unreadable(
        path,
        f"it begins with {lines[0][:40].strip()!r}, which is neither JSON nor a table",
        "give JSONL, JSON, CSV, TSV, Parquet or Arrow; call plain text .txt",
        line=1,
    )


def _are_behind_a_broken_line(lines: list[str], promised: Container | None) -> bool:
    """Say whether most lines behind the first hold JSON each, or any does where the name promises JSON lines."""
    first, others = lines[0].strip(), lines[1:]
    found = sum(isinstance(_parsed(line), dict | list) for line in others)
    if first[0] in ("{", "["):  # which one JSON value over many lines may begin with
        return len(first) > 1 and 2 * found > len(others)
    return 2 * found > len(others) or (promised == "jsonl" and found > 0)


def _is_data(lines: list[str], values: list[Any], text: str, *, whole: bool) -> bool:
    """Say whether a file that is called a text holds JSON or a table: rows, or a header of well-known names."""
    if lines[0].lstrip()[:1] in ("{", "["):
        value = _parsed(text) if whole else None
        return all(isinstance(value, dict) for value in values) or isinstance(value, dict | list)
    delimiter = find_delimiter(text.splitlines(keepends=True)[:100])
    names = [name.strip().casefold() for name in lines[0].split(delimiter)] if delimiter else []
    return len(names) > 1 and len(lines) > 1 and KNOWN_COLUMNS.issuperset(names)


_NOT_JSON = object()


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _json_container(
    lines: list[str], values: list[Any], text: str, promised: Container | None, *, whole: bool
) -> Container:
    """Tell JSON lines from one JSON value: in the former the first or the second line is a whole value."""
    start = lines[0].lstrip()[0]
    if len(lines) == 1:
        if values[0] is _NOT_JSON:
            return _half_line(text, start, promised)
        if isinstance(values[0], list):
            turns = all(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in values[0])
            return "jsonl" if turns and values[0] and promised == "jsonl" else "json"
        if whole and wraps_rows(values[0]):
            return "json"
        return "json" if promised == "json" else "jsonl"
    alike = lines[1].lstrip().startswith(start)
    if alike and any(isinstance(value, dict | list) for value in values):
        return "jsonl"
    if start == "{" and lines[0].rstrip().endswith("}"):
        return "jsonl"
    if start == "{" and len(lines[0].strip()) > 1 and promised == "jsonl" and _WRAPPED.match(text) is None:
        return "jsonl" if any(isinstance(_parsed(line), dict) for line in lines) else "json"
    return "json"


def _half_line(text: str, start: str, promised: Container | None) -> Container:
    """Judge by the beginning of a first line that is too long, or broken."""
    if start == "[":
        return (
            "jsonl" if promised == "jsonl" and re.match(r'\s*\[\s*\{\s*"(?:role|from|content|value)"', text) else "json"
        )
    return "json" if promised == "json" or _WRAPPED.match(text) else "jsonl"


def _read_text(path: Path, tell: Tell) -> Iterator[RawRow | BadLine]:
    pieces, offset = [], 0
    for number, line in enumerate(utf8_lines(path, tell), start=1):
        pieces.append(decode(line, path=path, number=number, offset=offset).replace("\r\n", "\n"))
        offset += len(line)
    text = "".join(pieces)
    records = labelled_rows(text) or dialogue_rows(text)
    if records is not None:
        yield from records
        return
    if _are_records(pieces):
        numbered = enumerate(pieces, start=1)
        yield from (RawRow(row=line.rstrip("\n"), line=number) for number, line in numbered if line.strip())
        return
    wanted = min(SECTION_CHARACTERS, len(text) // SECTIONS_WANTED)
    sections = _sections(text, r"\n\s*\n|\Z", wanted)
    if len(sections) < SECTIONS_WANTED // 2:
        sections = _sections(text, r"\n|\Z", wanted)
    first = 1
    for section in sections:
        if section.strip():
            blank = section[: len(section) - len(section.lstrip())].count("\n")
            yield RawRow(row=section, line=first + blank)
        first += section.count("\n")


def _are_records(lines: list[str]) -> bool:
    """Say whether each of many short lines is a text by itself.

    They are where none is blank and most end in a mark, or where nearly all begin with the same word, as commands do.
    """
    held = [line for line in lines if line.strip()]
    if len(held) < RECORDS_WANTED or max(map(len, held)) > RECORD_CHARACTERS:
        return False
    starts = Counter(line.split(maxsplit=1)[0].casefold() for line in held)
    if starts.most_common(1)[0][1] > 0.9 * len(held) and len(held) > 0.6 * len(lines):
        return True
    return len(held) == len(lines) and sum(line.rstrip()[-1] in ENDS for line in held) > 0.6 * len(held)


def _sections(text: str, gap: str, wanted: int) -> list[str]:
    """Cut a text at gaps into pieces of at least the wanted length; together they are the text."""
    sections, start = [], 0
    for match in re.finditer(gap, text):
        if start < match.end() and (match.end() - start >= wanted or match.end() == len(text)):
            sections.append(text[start : match.end()])
            start = match.end()
    return sections
