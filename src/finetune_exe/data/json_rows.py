"""Rows out of JSON and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from finetune_exe.data.encoding import decode, unreadable, utf8_lines
from finetune_exe.data.raw import BadLine, RawRow, object_row

WRAPPERS = ("data", "rows", "examples", "train", "records", "items", "instances")


def read_lines(path: Path) -> Iterator[RawRow | BadLine]:
    """Yield one row a line; a line that is none is set aside with its reason, and blank lines are passed over."""
    import msgspec

    decoder = msgspec.json.Decoder()
    offset = 0
    for number, line in enumerate(utf8_lines(path), start=1):
        if line.strip():
            try:
                yield object_row(decoder.decode(line), number)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
                yield _bad_line(line, number, offset, str(fault))
        offset += len(line)


def _bad_line(line: bytes, number: int, offset: int, reason: str) -> BadLine:
    """Say what is wrong with a line, with its column; Python's own parser words it better than the fast one."""
    shown = line[:200].decode(errors="replace").rstrip("\r\n")
    try:
        text = line.decode()
    except UnicodeDecodeError as fault:
        return BadLine(
            line=number,
            code="invalid_utf8",
            message=f"byte {offset + fault.start:,} of the file (0x{line[fault.start]:02x}) is not UTF-8",
            fix="save the line as UTF-8; it was probably written as Latin-1 or CP1252",
            text=shown,
        )
    try:
        value = json.loads(text.rstrip("\r\n"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as fault:
        reason = f"{fault.msg.removesuffix(' at')} at column {fault.colno}"
    except (ValueError, RecursionError) as fault:
        reason = str(fault)
    else:
        if not _encodable(value):
            return _lone_surrogate(number, shown)
    return BadLine(
        line=number,
        code="malformed_line",
        message=f"the line is not JSON: {reason}",
        fix="correct the line, or remove it",
        text=shown,
    )


def read_document(path: Path) -> Iterator[RawRow | BadLine]:
    """Yield the rows of one JSON value: an array, rows wrapped in an object, columns of equal length, or one row.

    Raises:
        FineTuneError: D01 where the text is no JSON, with line and column.
    """
    text = _whole_text(path)
    start = len(text) - len(text.lstrip())
    if text[start : start + 1] == "[":
        yield from _array(text, start, path)
        return
    value = _decode_at(text, start, path)[0]
    rows = _wrapped(value)
    if rows is None:
        rows = _columns(value)
    if rows is None:
        yield _row(value, text.count("\n", 0, start) + 1, text)
        return
    for row in rows:
        yield _row(row, None, text)


def _whole_text(path: Path) -> str:
    pieces, offset = [], 0
    for number, line in enumerate(utf8_lines(path), start=1):
        pieces.append(decode(line, path=path, number=number, offset=offset))
        offset += len(line)
    return "".join(pieces)


def _array(text: str, start: int, path: Path) -> Iterator[RawRow | BadLine]:
    """Walk an array element by element, so that each has its line and a fault is found where it is."""
    position, line, counted = _skip(text, start + 1), 1, 0
    if text[position : position + 1] != "]":
        while True:
            line += text.count("\n", counted, position)
            counted = position
            value, position = _decode_at(text, position, path)
            yield _row(value, line, text[counted:position])
            position = _skip(text, position)
            if text[position : position + 1] != ",":
                break
            position = _skip(text, position + 1)
    if text[position : position + 1] != "]":
        raise _not_json(text, position, path, "a comma or the closing bracket of the list is missing")
    rest = _skip(text, position + 1)
    if rest < len(text):
        raise _not_json(text, rest, path, "something stands behind the end of the list")


def _row(value: Any, line: int | None, text: str) -> RawRow | BadLine:
    """Take a value as a row, unless its text has an escape that stands for half a character."""
    if "\\ud" in text.lower() and not _encodable(value):
        return _lone_surrogate(line or 1, repr(value)[:200])
    return object_row(value, line)


def _encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _lone_surrogate(line: int, text: str) -> BadLine:
    return BadLine(
        line=line,
        code="lone_surrogate",
        message="an escape stands for half a character (a lone surrogate)",
        fix="correct the escape, or remove it",
        text=text,
    )


def _decode_at(text: str, position: int, path: Path) -> tuple[Any, int]:
    try:
        return json.JSONDecoder(parse_constant=_refuse_constant).raw_decode(text, position)
    except json.JSONDecodeError as fault:
        raise _not_json(text, fault.pos, path, fault.msg) from fault
    except (ValueError, RecursionError) as fault:
        raise _not_json(text, position, path, str(fault)) from fault


def _not_json(text: str, position: int, path: Path, why: str) -> Exception:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    reason = f"it is no JSON: {why.removesuffix(' at')} at line {line}, column {column}"
    return unreadable(path, reason, "correct the file there", line=line)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _skip(text: str, position: int) -> int:
    while text[position : position + 1].isspace():
        position += 1
    return position


def _wrapped(value: Any) -> list[Any] | None:
    """Find the list of rows in an object such as {"data": [...], "version": ...}."""
    lists = [value[key] for key in WRAPPERS if key in value and isinstance(value[key], list)]
    return lists[0] if lists and any(isinstance(row, dict) for row in lists[0]) else None


def _columns(value: Any) -> list[dict[str, Any]] | None:
    """Turn {"a": [1, 2], "b": [3, 4]} into rows; lists of objects are turns of one row, not columns."""
    columns = list(value.values())
    if not columns or not all(isinstance(column, list) for column in columns):
        return None
    if len({len(column) for column in columns}) != 1 or any(isinstance(cell, dict) for c in columns for cell in c):
        return None
    return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
