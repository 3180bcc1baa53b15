"""What a file gives up: rows, and the places where it holds none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from finetune_exe.text.formats.format import Row


class RawRow(NamedTuple):
    """One record, not yet understood."""

    row: Row
    line: int | None
    """Line of the file it begins at, from 1; None where the file has no lines, or several rows on this one."""
    notes: tuple[str, ...] = ()
    """What was odd about its text: `nan_literal`, `duplicate_key`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A place where a record should be and is none."""

    line: int
    code: str
    message: str
    fix: str
    text: str
    """What stands there; bytes that are not UTF-8 as in \\xe9."""
    row: dict[str, Any] | None = None
    """What there is of a row, where its columns are known."""


def object_row(value: Any, line: int | None) -> RawRow | BadLine:
    """Take a JSON value as a row if it can be one."""
    if isinstance(value, dict | list | str):
        return RawRow(row=value, line=line)
    return BadLine(
        line=line or 1,
        code="not_a_row",
        message=f"a {type(value).__name__} stands where a row should be",
        fix="write each row as an object",
        text=repr(value)[:200],
    )
