"""Rows out of CSV, TSV and their kin."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune_exe.data.broken_json import MAX_KEYS, bad_line
from finetune_exe.data.encoding import OverlongLine, decode, unreadable, utf8_lines
from finetune_exe.data.faults import Tell, file_note
from finetune_exe.data.raw import BadLine, RawRow

DELIMITERS = (",", "\t", ";", "|", "\x1f", "\x01", "^", "~")
SAMPLE_LINES = 100
"""Lines from which the delimiter is told."""
MAX_FIELD_CHARACTERS = 16 << 20
"""A longer field is an unclosed quote that swallows the file."""
MAX_NAME_CHARACTERS = 200
"""A longer cell in the first line is a text: the table has no header."""


class _TextLines:
    """Lines as text; bytes that are not UTF-8 become half characters, and where the last of them are is kept."""

    def __init__(self, path: Path, tell: Tell) -> None:
        self._lines = utf8_lines(path, tell, crlf_is_usual=True)
        self._path = path
        self._number = self._offset = 0
        self.bad_byte = ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._number += 1
        try:
            return line.decode()
        except UnicodeDecodeError as fault:
            if isinstance(line, OverlongLine):
                decode(line, path=self._path, number=self._number, offset=self._offset)
            self.bad_byte = f"byte {self._offset + fault.start:,} of the file (0x{line[fault.start]:02x}) is not UTF-8"
            return line.decode(errors="surrogateescape")
        finally:
            self._offset += len(line)


def read_csv(path: Path, tell: Tell, *, start: str) -> Iterator[RawRow | BadLine]:
    """Yield the records of a delimited file with a header; a record of another width is set aside.

    Args:
        path: The file.
        tell: Told what is unusual.
        start: The beginning of its text, by which the delimiter is found.

    Raises:
        FineTuneError: D01 where the header cannot name columns.
    """
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    beginning = start.splitlines(keepends=True)[:SAMPLE_LINES]
    delimiter = find_delimiter(beginning) or ","
    sample = _sample(beginning, delimiter)
    lines = _TextLines(path, tell)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as fault:
            yield _misquoted(line, reader.line_num, fault)
            continue
        if not record:
            continue
        if header is None and _is_data(record, sample):
            header = [f"column_{number}" for number in range(1, len(record) + 1)]
            tell(file_note("no_header", path, fix=f"write a header above the first line, as in: {','.join(header)}"))
        elif header is None:
            header = _header(record, path, line)
            continue
        if header is not None:
            yield _record(record, header, line, delimiter, lines)


def find_delimiter(lines: Sequence[str]) -> str | None:
    """Find the delimiter that cuts most of the sample into equally many fields; None where none cuts it at all."""
    best, best_score = None, 0.0
    for delimiter in DELIMITERS:
        try:
            widths = [len(record) for record in csv.reader(lines, delimiter=delimiter) if record]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            score = sum(width == widths[0] for width in widths) / len(widths) + min(widths[0], 100) / 1000
            if score > best_score:
                best, best_score = delimiter, score
    return best


def _sample(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    try:
        return [record for record in csv.reader(lines, delimiter=delimiter) if record]
    except csv.Error:
        return []


def _is_data(first: list[str], sample: Sequence[list[str]]) -> bool:
    """Say whether the first record is a row like the others rather than names of columns.

    It is where one of its values is a number, is longer than a name, or comes again in its column, more than once in
    fifty times.
    """
    if all(cell.strip() == str(number) for number, cell in enumerate(first)) or len(first) > MAX_KEYS:
        return False
    if any(len(cell) > MAX_NAME_CHARACTERS or _is_number(cell) for cell in first):
        return True
    columns = zip(*(record for record in sample[1:] if len(record) == len(first)), strict=True)
    return any(
        cell.strip() and column.count(cell) > len(column) / 50 for cell, column in zip(first, columns, strict=False)
    )


def _is_number(cell: str) -> bool:
    """Say whether a cell is a number, and no year, which may well be a name."""
    if re.fullmatch(r"(19|20)\d\d", cell.strip()):
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _record(record: list[str], header: list[str], line: int, delimiter: str, lines: _TextLines) -> RawRow | BadLine:
    if lines.bad_byte:
        why, lines.bad_byte = lines.bad_byte, ""
        plain = [field.encode(errors="surrogateescape").decode(errors="backslashreplace") for field in record]
        if plain != record:
            return _bad_record("invalid_utf8", plain, header, line, delimiter, why)
    if len(record) == len(header):
        return RawRow(row=dict(zip(header, record, strict=True)), line=line)
    why = f"the record has {len(record)} fields, the header {len(header)}"
    return _bad_record("ragged_row", record, header, line, delimiter, why)


def _bad_record(code: str, record: list[str], header: list[str], line: int, delimiter: str, why: str) -> BadLine:
    row: dict[str, Any] = dict(zip(header, record, strict=False))
    if len(record) > len(header):
        row["fields_too_many"] = record[len(header) : MAX_KEYS]
    return replace(bad_line(line, code, delimiter.join(record), why), row=row)


def _header(record: list[str], path: Path, line: int) -> list[str]:
    names = [name.strip() for name in record]
    if len(names) > MAX_KEYS:
        raise unreadable(path, f"it has {len(names):,} columns", "keep the columns to learn from", line=line)
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        why = f"two columns are called {twice!r}" if twice else "two columns have no name"
        raise unreadable(path, why, "give every column a name of its own in the first line", line=line)
    return names


def _misquoted(first: int, last: int, fault: csv.Error) -> BadLine:
    reach = f"lines {first} to {last}" if last > first else f"line {first}"
    if "unexpected end" in str(fault) or "field larger" in str(fault):
        return bad_line(first, "unclosed_quote", "", f"the quotes of {reach} do not close: {fault}")
    return bad_line(first, "stray_quote", "", f"a quote stands inside a field of {reach}: {fault}")
