"""Read rows out of a file, whatever it is called: what is inside decides."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from finetune_exe.data.csv_rows import find_delimiter, read_csv
from finetune_exe.data.encoding import decode, unreadable, utf8_lines
from finetune_exe.data.json_rows import read_document, read_lines
from finetune_exe.data.raw import BadLine, RawRow
from finetune_exe.data.tagged_lines import labelled_rows, refuse_word_tags
from finetune_exe.errors import FineTuneError

Container = Literal["json", "jsonl", "csv", "text", "parquet"]
TEXT_SUFFIXES = (".txt", ".md", ".text", ".rst")
TABLE_SUFFIXES = (".csv", ".tsv")
SECTION_CHARACTERS = 20_000
SECTIONS_WANTED = 30


def read_rows(path: Path) -> Iterator[RawRow | BadLine]:
    """Yield every row of a file in order, and every place where a row should be and is none.

    JSON lines and CSV are streamed. A plain text is one document, given in sections of whole paragraphs so that
    parts of it can be held out, unless each of its lines begins with a label.

    Raises:
        FineTuneError: D01 where the file as a whole cannot be read, D02 where it holds no row, D03 for tagged words.
    """
    empty = True
    for entry in _rows(path):
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


def _rows(path: Path) -> Iterator[RawRow | BadLine]:
    match container_of(path):
        case "parquet":
            return _read_parquet(path)
        case "json":
            return read_document(path)
        case "jsonl":
            return read_lines(path)
        case "csv":
            return read_csv(path)
        case "text":
            return _read_text(path)


def container_of(path: Path) -> Container:
    """Say what kind of file it is, from its first lines; the name decides only between text and tables.

    Raises:
        FineTuneError: D01 where it is none that can be read, D03 where it tags words one a line.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PAR1":
                return "parquet"
    except OSError as fault:
        raise unreadable(path, f"the system says: {fault.strerror}", "check the path and its rights") from fault
    lines = list(islice((line for line in utf8_lines(path) if line.strip()), 20))
    refuse_word_tags(path, lines)
    suffix = next((s for s in reversed([s.lower() for s in path.suffixes]) if s != ".gz"), "")
    if suffix in TEXT_SUFFIXES:
        return "text"
    if suffix in TABLE_SUFFIXES or not lines:
        return "csv" if suffix in TABLE_SUFFIXES else "jsonl"
    start = lines[0].lstrip()[:1]
    if start in (b"{", b"["):
        return _json_container(lines, start)
    try:
        json.loads(lines[0])
    except ValueError:
        pass
    else:
        return "jsonl"
    if find_delimiter([line.decode(errors="replace") for line in lines]) and len(lines) > 1:
        return "csv"
    if suffix in (".jsonl", ".ndjson"):
        return "jsonl"
    raise unreadable(
        path,
        f"it begins with {lines[0][:40].decode(errors='replace').strip()!r}, which is neither JSON nor a table",
        "give JSONL, JSON, CSV, TSV or Parquet; call plain text .txt",
        line=1,
    )


def _json_container(lines: list[bytes], start: bytes) -> Container:
    """Tell JSON lines from one JSON value: in the former the first or the second line is a whole value."""
    if len(lines) == 1:
        try:
            json.loads(lines[0])
        except ValueError:
            return "jsonl" if start == b"{" else "json"
        return "json"
    second_starts_alike = lines[1].startswith(start)
    for line in lines[:2]:
        try:
            whole = isinstance(json.loads(line), dict | list)
        except ValueError:
            continue
        if whole and second_starts_alike:
            return "jsonl"
    if start == b"{" and lines[0].rstrip().endswith(b"}"):
        return "jsonl"
    return "json"


def _read_parquet(path: Path) -> Iterator[RawRow | BadLine]:
    import duckdb

    try:
        with duckdb.connect() as connection:
            cursor = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
            names = [column[0] for column in cursor.description]
            while records := cursor.fetchmany(1000):
                for record in records:
                    yield RawRow(row=dict(zip(names, record, strict=True)), line=None)
    except duckdb.Error as fault:
        raise unreadable(path, f"the Parquet file is damaged: {fault}", "write the file again") from fault


def _read_text(path: Path) -> Iterator[RawRow | BadLine]:
    pieces, offset = [], 0
    for number, line in enumerate(utf8_lines(path), start=1):
        pieces.append(decode(line, path=path, number=number, offset=offset).replace("\r\n", "\n"))
        offset += len(line)
    text = "".join(pieces)
    labelled = labelled_rows(text)
    if labelled is not None:
        yield from labelled
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


def _sections(text: str, gap: str, wanted: int) -> list[str]:
    """Cut a text at gaps into pieces of at least the wanted length; together they are the text."""
    sections, start = [], 0
    for match in re.finditer(gap, text):
        if start < match.end() and (match.end() - start >= wanted or match.end() == len(text)):
            sections.append(text[start : match.end()])
            start = match.end()
    return sections
