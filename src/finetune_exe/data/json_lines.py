"""Rows out of JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from finetune_exe.data.broken_json import (
    MAX_DEPTH,
    MAX_KEYS,
    REJECTED_KEYS,
    bad_line,
    depth_and_keys,
    has_duplicate_keys,
    read_damaged,
    read_repaired,
    too_many_keys,
)
from finetune_exe.data.encoding import utf8_lines
from finetune_exe.data.faults import FileNote, Tell, file_note
from finetune_exe.data.raw import BadLine, RawRow, object_row

BLANKS = b" \t\r\n\f\v\x1a"
"""What a blank line is made of; the last of them ended files under DOS."""
MAX_BLANK_LINES = 1000
"""Blank lines that are named one by one."""


class _Lines:
    """Lines that can be looked at ahead and put back."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._ahead: list[bytes] = []

    def take(self) -> bytes | None:
        """Give the next line."""
        return self._ahead.pop(0) if self._ahead else next(self._lines, None)

    def look_ahead(self) -> Iterator[bytes]:
        """Give the lines to come, which stay to be taken."""
        yield from list(self._ahead)
        for line in self._lines:
            self._ahead.append(line)
            yield line


def read_json_lines(path: Path, tell: Tell) -> Iterator[RawRow | BadLine]:
    """Yield one row a line; a line that is none is set aside with its reason, and blank lines are passed over.

    A line of `rejected.jsonl` gives the row that was rejected, so that the file can be mended and read like any.
    """
    import msgspec

    cut_off: list[FileNote] = []

    def tell_and_keep(note: FileNote) -> None:
        tell(note)
        if note.code in ("corrupt_compression", "compression_bomb"):
            cut_off.append(note)

    decode = msgspec.json.Decoder().decode
    lines = _Lines(utf8_lines(path, tell_and_keep))
    number = offset = 0
    blank: list[int] = []
    pending: list[int] = []
    while (line := lines.take()) is not None:
        number += 1
        try:
            entry = _checked(decode(line), line, number)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if not line.strip(BLANKS):
                pending.append(number)
                offset += len(line)
                continue
            entry, num_lines = read_damaged(line, number, offset, lines.look_ahead())
            for _ in range(num_lines - 1):
                offset += len(lines.take() or b"")
            number += num_lines - 1
            if cut_off and isinstance(entry, BadLine) and entry.code == "truncated_last_line":
                break
        blank += pending[: MAX_BLANK_LINES - len(blank)]
        pending.clear()
        yield entry
        offset += len(line)
    if blank:
        tell(file_note("blank_line", path, lines=tuple(blank)))


def _checked(value: object, line: bytes, number: int) -> RawRow | BadLine:
    """Look for what the fast parser lets pass: keys given twice, and rows too deep for what works on them later."""
    if type(value) is not dict:
        if type(value) is list and depth_and_keys(value)[0] > MAX_DEPTH:
            raise RecursionError
        return object_row(value, number)
    depth, num_keys = depth_and_keys(value)
    if depth > MAX_DEPTH:
        raise RecursionError
    if num_keys > MAX_KEYS and too_many_keys(value):
        return bad_line(number, "too_many_keys", line.decode().rstrip("\r\n"))
    colons = line.count(b'":')
    certain = colons == num_keys or colons - line.count(b'\\":') == num_keys
    if (not certain or b'" :' in line or b'\\\\":' in line) and has_duplicate_keys(line.decode()):
        return RawRow(row=value, line=number, notes=("duplicate_key",))
    if value.keys() == REJECTED_KEYS:
        return read_repaired(value, number)
    return RawRow(row=value, line=number)
