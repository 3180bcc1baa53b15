"""Rows out of CSV and TSV."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from finetune_exe.data.encoding import decode, unreadable, utf8_lines
from finetune_exe.data.raw import BadLine, RawRow

DELIMITERS = (",", "\t", ";", "|")
SAMPLE_LINES = 100


def read_csv(path: Path) -> Iterator[RawRow | BadLine]:
    """Yield the records of a delimited file with a header; a record of another width is set aside.

    Raises:
        FineTuneError: D01 where the bytes are not UTF-8 or the header cannot name columns.
    """
    csv.field_size_limit(sys.maxsize)
    delimiter = find_delimiter(list(islice(_text(path), SAMPLE_LINES))) or ","
    reader = csv.reader(_text(path), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as fault:
            yield _unclosed(line, reader.line_num, fault)
            continue
        if not record:
            continue
        if header is None:
            header = _header(record, path, line)
        elif len(record) != len(header):
            yield BadLine(
                line=line,
                code="ragged_row",
                message=f"the record has {len(record)} fields, the header {len(header)}",
                fix="put quotes around a field that holds the delimiter or a line break",
                text=delimiter.join(record)[:200],
            )
        else:
            yield RawRow(row=dict(zip(header, record, strict=True)), line=line)


def find_delimiter(lines: Sequence[str]) -> str | None:
    """Find the delimiter that cuts most of the sample into equally many fields; None where none cuts it at all."""
    best, best_score = None, 0.0
    for delimiter in DELIMITERS:
        try:
            widths = [len(record) for record in csv.reader(lines, delimiter=delimiter) if record]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            score = sum(width == widths[0] for width in widths) / len(widths) + widths[0] / 1000
            if score > best_score:
                best, best_score = delimiter, score
    return best


def _text(path: Path) -> Iterator[str]:
    offset = 0
    for number, line in enumerate(utf8_lines(path), start=1):
        yield decode(line, path=path, number=number, offset=offset)
        offset += len(line)


def _header(record: list[str], path: Path, line: int) -> list[str]:
    names = [name.strip() for name in record]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        why = f"two columns are called {twice!r}" if twice else "two columns have no name"
        raise unreadable(path, why, "give every column a name of its own in the first line", line=line)
    return names


def _unclosed(first: int, last: int, fault: csv.Error) -> BadLine:
    reach = f"lines {first} to {last}" if last > first else f"line {first}"
    return BadLine(
        line=first,
        code="malformed_line",
        message=f"the quotes of {reach} do not close: {fault}",
        fix='close the quote; a quote inside a quoted field is written twice: ""',
        text="",
    )
