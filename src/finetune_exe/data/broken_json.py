"""Say what is wrong with a line that should be JSON, by name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

from finetune_exe.data.encoding import OverlongLine
from finetune_exe.data.faults import LINE_FAULTS
from finetune_exe.data.python_literal import read_python
from finetune_exe.data.raw import BadLine, RawRow, object_row

MAX_DEPTH = 100
"""Objects and lists inside each other; deeper rows are no rows, and would break what works on them later."""
MAX_KEYS = 10_000
"""Most keys of a row; with more it is a table on its side, or a matrix."""
MAX_JOINED = 40
"""Lines that one row with unescaped line ends may reach over."""
REJECTED_KEYS = {"source", "code", "message", "row"}
"""The keys of a line of `rejected.jsonl`."""


class Reading(NamedTuple):
    """What became of a line that the fast parser refused."""

    entry: RawRow | BadLine
    num_lines: int = 1
    """How many lines it took."""


class _DuplicateKeyError(ValueError):
    pass


def read_damaged(line: bytes, number: int, offset: int, following: Iterator[bytes]) -> Reading:
    """Find out what is wrong with a line, and read it where only strictness speaks against it.

    Args:
        line: Its bytes.
        number: The line's number, from 1.
        offset: Bytes of the file before it.
        following: The lines behind it; taken from only as far as `num_lines` says or the answer needs.
    """
    if isinstance(line, OverlongLine):
        why = f"the line has {line.num_bytes:,} bytes; no row is so long"
        return Reading(bad_line(number, "line_too_long", line.decode(errors="backslashreplace"), why))
    try:
        text = line.decode()
    except UnicodeDecodeError as fault:
        if fault.reason == "unexpected end of data" or fault.end >= len(line.rstrip(b"\r\n")):
            return diagnose(line.decode(errors="ignore").rstrip("\r\n"), number, following)
        why = f"byte {offset + fault.start:,} of the file (0x{line[fault.start]:02x}) is not UTF-8"
        shown = line.decode(errors="backslashreplace").rstrip("\r\n")
        fix = "save the line as UTF-8; it was probably written as Latin-1 or CP1252"
        return Reading(bad_line(number, "invalid_utf8", shown, why, fix=fix))
    return diagnose(text.rstrip("\r\n"), number, following)


def read_repaired(row: dict[str, Any], line: int | None) -> RawRow | BadLine:
    """Take the row out of a line of `rejected.jsonl`: as an object, or as the text of one."""
    held = row["row"]
    if not isinstance(held, str) or row["code"] in ("bare_string", "exact_duplicate", "empty_text"):
        return object_row(held, line)
    return diagnose(held, line or 1, iter(())).entry


def bad_line(number: int, code: str, text: str, message: str | None = None, *, fix: str | None = None) -> BadLine:
    """Set a line aside, with the table's words where no better ones are at hand."""
    kind = LINE_FAULTS[code]
    return BadLine(line=number, code=code, message=message or kind.meaning, fix=fix or kind.fix, text=text)


def depth_and_keys(value: Any, depth: int = 1) -> tuple[int, int]:
    """Count how deep objects and lists stand inside each other, up to a little over `MAX_DEPTH`, and their keys."""
    deepest, keys = depth, 0
    inner: Any = ()
    if type(value) is dict:
        keys = len(value)
        inner = value.values()
    elif type(value) is list:
        inner = value
    if depth <= MAX_DEPTH:
        for child in inner:
            if type(child) is dict or type(child) is list:
                below, more = depth_and_keys(child, depth + 1)
                keys += more
                if below > deepest:
                    deepest = below
    return deepest, keys


def too_many_keys(value: Any) -> bool:
    """Say whether a row has more keys than anybody learns from."""
    return type(value) is dict and len(value) > MAX_KEYS


def has_duplicate_keys(text: str) -> bool:
    """Say whether an object in a JSON text gives a key twice."""
    try:
        json.loads(text, object_pairs_hook=_unique)
    except _DuplicateKeyError:
        return True
    except (ValueError, RecursionError):
        return False
    return False


def is_encodable(value: Any) -> bool:
    """Say whether every text in a value is made of whole characters."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def diagnose(text: str, number: int, following: Iterator[bytes]) -> Reading:
    """Do what `read_damaged` does, for a line that is text without its line end."""
    constants: list[str] = []
    try:
        value = json.loads(text, parse_constant=constants.append)
    except json.JSONDecodeError as fault:
        return _diagnose_syntax(text, number, following, fault)
    except RecursionError:
        return Reading(bad_line(number, "too_deep", text))
    except ValueError as fault:
        return Reading(bad_line(number, "malformed_line", text, f"the line is not JSON: {fault}"))
    if depth_and_keys(value)[0] > MAX_DEPTH:
        return Reading(bad_line(number, "too_deep", text))
    if too_many_keys(value):
        return Reading(bad_line(number, "too_many_keys", text))
    if not is_encodable(value):
        return Reading(bad_line(number, "lone_surrogate", text))
    notes = ("duplicate_key",) if has_duplicate_keys(text) else ()
    entry = object_row(value, number)
    if isinstance(entry, RawRow):
        entry = entry._replace(notes=(*notes, "nan_literal") if constants else notes)
    return Reading(entry)


def _diagnose_syntax(text: str, number: int, following: Iterator[bytes], fault: json.JSONDecodeError) -> Reading:
    code = _code_of_shape(text, fault)
    if code is not None:
        return Reading(bad_line(number, code, text))
    if fault.msg.startswith("Unterminated string") or fault.pos >= len(text.rstrip()) or breaks_off(text):
        next_line = next(following, None)
        while next_line is not None and not next_line.strip():
            next_line = next(following, None)
        if next_line is None:
            return Reading(bad_line(number, "truncated_last_line", text, _where("the file breaks off", fault)))
        joined = _joined(text, next_line, following)
        if joined is not None:
            return Reading(bad_line(number, "unescaped_newline", joined[0]), num_lines=joined[1])
        return Reading(bad_line(number, "truncated_line", text, _where("the line breaks off", fault)))
    if _parses(text, strict=False):
        code = "unescaped_newline" if "\n" in text else "unescaped_control"
        return Reading(bad_line(number, code, text, _where(LINE_FAULTS[code].meaning, fault)))
    return Reading(bad_line(number, "malformed_line", text, _where("the line is not JSON", fault)))


def _code_of_shape(text: str, fault: json.JSONDecodeError) -> str | None:
    """Name the faults that show in the line alone."""
    start = text.lstrip()
    if start.startswith(("//", "/*", "#")):
        return "comment_line"
    if fault.msg.startswith("Invalid \\") and not breaks_off(text):
        return "invalid_escape"
    if re.match(r"[\[{]\s*'", start) and isinstance(read_python(start.rstrip().removesuffix(",")), dict | list):
        return "single_quotes"
    if fault.msg == "Extra data":
        rest = text[fault.pos :].strip()
        if rest == ",":
            return "trailing_comma"
        return "two_objects_one_line" if _are_rows(rest.removeprefix(",").lstrip()) else None
    bare = re.sub(r",(\s*[}\]])", r"\1", text.strip().removesuffix(","))
    return "trailing_comma" if bare != text.strip() and _parses(bare) else None


def breaks_off(text: str) -> bool:
    """Say whether a JSON text ends before its value does."""
    import msgspec

    try:
        msgspec.json.decode(text.encode(errors="replace"))
    except (msgspec.DecodeError, RecursionError) as reason:
        return "truncated" in str(reason)
    return False


def _joined(text: str, next_line: bytes, following: Iterator[bytes]) -> tuple[str, int] | None:
    """Join lines that a text with unescaped line ends reaches over."""
    lines = [text]
    pending: bytes | None = next_line
    while pending is not None and len(lines) < MAX_JOINED and not isinstance(pending, OverlongLine):
        lines.append(pending.decode(errors="replace").rstrip("\r\n"))
        if len(lines) == 2 and _parses(lines[-1]):
            return None
        if _parses("\n".join(lines), strict=False):
            return "\n".join(lines), len(lines)
        if lines[-1].lstrip().startswith('{"') and _parses(lines[-1]):
            return None
        pending = next(following, None)
    return None


def _parses(text: str, *, strict: bool = True) -> bool:
    try:
        value = json.loads(text, strict=strict)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict | list)


def _are_rows(text: str) -> bool:
    """Say whether a text is rows one behind the other."""
    decoder = json.JSONDecoder()
    while text:
        try:
            value, end = decoder.raw_decode(text)
        except (ValueError, RecursionError):
            return False
        if not isinstance(value, dict | list):
            return False
        text = text[end:].lstrip().removeprefix(",").lstrip()
    return True


def _where(what: str, fault: json.JSONDecodeError) -> str:
    return f"{what}: {fault.msg.removesuffix(' at')} at column {fault.colno}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _DuplicateKeyError
    return found


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity where a parser asks what they mean."""
    raise ValueError(f"{name} is not a JSON value")
