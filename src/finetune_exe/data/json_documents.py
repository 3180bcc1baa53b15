"""Rows out of one JSON value: an array, rows wrapped in an object, columns of equal length, or one row."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune_exe.data.broken_json import (
    MAX_DEPTH,
    MAX_KEYS,
    bad_line,
    breaks_off,
    depth_and_keys,
    diagnose,
    has_duplicate_keys,
    is_encodable,
    refuse_constant,
    too_many_keys,
)
from finetune_exe.data.encoding import decode, is_western, unreadable, utf8_blocks, western_note
from finetune_exe.data.faults import Tell, file_note
from finetune_exe.data.raw import BadLine, RawRow, object_row

WRAPPERS = ("data", "rows", "examples", "train", "records", "items", "instances", "samples", "dataset")
PARTS_OF_A_ROW = frozenset({
    "messages", "conversations", "conversation", "chosen", "rejected", "prompt", "turns", "history", "tools",
    "functions", "function", "instances", "spans", "entities", "labels", "slots", "annotations",
})  # fmt: skip
"""Lists of objects that belong to a row, unless they hold rows themselves."""
MAX_ROW_CHARACTERS = 64 << 20
"""A longer row is set aside, as a longer line of JSON lines is."""
MAX_VALUE_CHARACTERS = 512 << 20
"""Longest value that is not an array, and so has to be held whole."""
KEEP_CHARACTERS = 1 << 20
"""Characters that are read, and let go, at a time."""


class _Text:
    """The text of a file, held from the current row on; `position` is where in `held` the reader stands."""

    def __init__(self, path: Path, tell: Tell) -> None:
        self._blocks = utf8_blocks(path, tell)
        self._decoder: codecs.IncrementalDecoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._path = path
        self._tell = tell
        self._is_utf8 = False
        self._counted = 0
        self._line = 1
        self.held = ""
        self.position = 0
        self.ended = False

    def more(self) -> bool:
        """Hold more of the text, twice as much as before at least; say whether there was more."""
        pieces = [self.held]
        wanted = max(KEEP_CHARACTERS, len(self.held))
        while wanted > 0 and not self.ended:
            block = next(self._blocks, None)
            self.ended = block is None
            pieces.append(self._decoded(block or b""))
            wanted -= len(pieces[-1])
        self.held = "".join(pieces)
        return len(self.held) > len(pieces[0])

    def _decoded(self, block: bytes) -> str:
        text = self._decoder.decode(block, final=self.ended)
        if self._is_utf8 or text.isascii():
            return text
        self._is_utf8 = True
        if not _has_surrogates(text) or not is_western(self._path):
            return text
        self._tell(western_note(self._path))
        held = text.encode(errors="surrogateescape") + self._decoder.getstate()[0]
        self._decoder = codecs.getincrementaldecoder("cp1252")("replace")
        return self._decoder.decode(held)

    def peek(self) -> str:
        """Pass over blanks, and give the next character; empty at the end of the text."""
        while True:
            match = _BLANKS.match(self.held, self.position)
            assert match
            self.position = match.end()
            if self.position < len(self.held):
                return self.held[self.position]
            if self.ended or not self.more():
                return ""

    def line(self) -> int:
        """Give the line of the current position, from 1."""
        self._line += self.held.count("\n", self._counted, self.position)
        self._counted = self.position
        return self._line

    def let_go(self) -> None:
        """Forget what lies behind the current position once it is much."""
        if self.position > KEEP_CHARACTERS:
            self.line()
            self.held, self.position, self._counted = self.held[self.position :], 0, 0


_BLANKS = re.compile(r"[ \t\r\n\f\v]*")


def read_document(path: Path, tell: Tell) -> Iterator[RawRow | BadLine]:
    """Yield the rows of one JSON value. An array is streamed, and a broken element of it set aside.

    Raises:
        FineTuneError: D01 where an object is no JSON, with line and column.
    """
    text = _Text(path, tell)
    if text.peek() == "[":
        text.position += 1
        yield from _array(text)
        return
    value, line = _whole(text, path)
    if text.peek() == "{":
        yield _row(value, line, "")
        yield from _array(text, closed=False)
        return
    rows = _wrapped(value, path, tell)
    if rows is None:
        rows = _columns(value, path, tell)
    if rows is None:
        yield _row(value, line, "")
        return
    for row in rows:
        yield _row(row, None, "")


def wraps_rows(value: Any) -> bool:
    """Say whether a JSON value is a file of rows rather than one row."""
    return isinstance(value, dict) and (_wrapper(value) is not None or _is_columns(value) or _is_squad(value))


def _array(text: _Text, *, closed: bool = True) -> Iterator[RawRow | BadLine]:
    """Walk an array element by element, so that each has its line and a fault is found where it is.

    Elements that begin on the same line have none: their number tells them apart.
    Objects one behind the other, without the brackets of a list, are walked alike.
    """
    before = 0
    while text.peek() not in ("", "]"):
        line, begin = text.line(), text.position
        constants: list[str] = []
        found = _decode_element(text, constants)
        if isinstance(found, Exception):
            yield _set_aside(text, line, found)
            if text.ended and not text.held:
                return
            _pass_comma(text)
        else:
            value, text.position = found
            notes = ("nan_literal",) if constants else ()
            entry = _row(value, line, text.held[begin : text.position], notes)
            _pass_comma(text)
            is_shared = line == before or (text.peek() not in ("", "]") and text.line() == line)
            yield entry._replace(line=None) if is_shared and isinstance(entry, RawRow) else entry
        before = line
        text.let_go()
    if not text.peek():
        if not closed:
            return
        yield bad_line(text.line(), "truncated_last_line", "", "the closing bracket of the list is missing")
        return
    text.position += 1
    if text.peek():
        yield _rest(text, text.line(), "something stands behind the end of the list", text.position)


def _pass_comma(text: _Text) -> None:
    if text.peek() == ",":
        text.position += 1


def _decode_element(text: _Text, constants: list[str]) -> tuple[Any, int] | json.JSONDecodeError | RecursionError:
    """Decode the value at the position, holding more of the text as long as that may help."""
    decoder = json.JSONDecoder(parse_constant=constants.append)
    while True:
        try:
            value, end = decoder.raw_decode(text.held, text.position)
        except RecursionError as fault:
            return fault
        except json.JSONDecodeError as fault:
            if len(text.held) - text.position > MAX_ROW_CHARACTERS or not text.more():
                return fault
        else:
            if end < len(text.held) or not text.more():
                return value, end


def _set_aside(text: _Text, line: int, fault: json.JSONDecodeError | RecursionError) -> BadLine:
    """Set an element aside up to where the next one begins: a line that is indented and opens as its own does."""
    begin = text.position
    indent = text.held[text.held.rfind("\n", 0, begin) + 1 : begin]
    next_element = re.compile(r",?[ \t\r]*\n" + re.escape(indent) + r"(?=" + re.escape(text.held[begin]) + ")")
    while True:
        match = next_element.search(text.held, begin) if not indent.strip() else None
        if match is not None or len(text.held) - begin > MAX_ROW_CHARACTERS or not text.more():
            break
    if match is None:
        if isinstance(fault, RecursionError):
            return _rest(text, line, "it nests too deeply", begin)
        return _rest(text, line, fault.msg, fault.pos)
    element = text.held[begin : match.start()]
    text.position = match.end()
    entry = diagnose(element, line, iter(())).entry
    return entry if isinstance(entry, BadLine) else bad_line(line, "malformed_line", element)


def _rest(text: _Text, line: int, why: str, where: int) -> BadLine:
    """Set aside all that is left of the text, which is said to be no JSON at the position `where`."""
    at_line = line + text.held.count("\n", text.position, where)
    column = where - text.held.rfind("\n", 0, where)
    shown = text.held[text.position :]
    length = len(shown)
    while not text.ended:
        text.held = ""
        text.more()
        length += len(text.held)
        shown += text.held if length <= MAX_ROW_CHARACTERS else ""
    text.held, text.position = "", 0
    code = "truncated_last_line" if breaks_off(shown) else "malformed_line"
    reason = f"{why.removesuffix(' at')} at line {at_line}, column {column}"
    return bad_line(line, code, shown, f"the rest of the file, {length:,} characters, is no JSON: {reason}")


def _row(value: Any, line: int | None, text: str, notes: tuple[str, ...] = ()) -> RawRow | BadLine:
    """Take a value as a row, unless it is broken in a way that the parser lets pass."""
    depth, num_keys = depth_and_keys(value)
    if depth > MAX_DEPTH:
        return bad_line(line or 1, "too_deep", text or repr(value)[:200])
    if too_many_keys(value):
        return bad_line(line or 1, "too_many_keys", text or repr(value)[:200])
    if not text.isascii() and _has_surrogates(text):
        return bad_line(
            line or 1, "invalid_utf8", text.encode(errors="surrogateescape").decode(errors="backslashreplace")
        )
    if "\\ud" in text.lower() and not is_encodable(value):
        return bad_line(line or 1, "lone_surrogate", text)
    if text.count('":') - text.count('\\":') > num_keys and has_duplicate_keys(text):
        notes = (*notes, "duplicate_key")
    entry = object_row(value, line)
    return entry._replace(notes=notes) if notes and isinstance(entry, RawRow) else entry


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _whole(text: _Text, path: Path) -> tuple[Any, int]:
    """Parse the one value that is left, and give the line it begins at."""
    line, begin = text.line(), text.position
    while text.more():
        if len(text.held) > MAX_VALUE_CHARACTERS:
            raise unreadable(path, "one object fills all of a large file", "write its rows as JSON lines")
    try:
        value, end = json.JSONDecoder(parse_constant=refuse_constant).raw_decode(text.held, begin)
    except json.JSONDecodeError as fault:
        raise _not_json(text.held, fault.pos, path, fault.msg) from fault
    except (ValueError, RecursionError) as fault:
        raise _not_json(text.held, begin, path, str(fault)) from fault
    if _has_surrogates(text.held):
        held = text.held.encode(errors="surrogateescape")
        decode(held, path=path, number=1, offset=0)
    text.position = end
    rest = text.held[end:].strip()
    if rest and not rest.startswith("{"):
        raise _not_json(text.held, text.held.index(rest, end), path, "something stands behind the object")
    if not is_encodable(value):
        raise unreadable(path, "an escape stands for half a character (a lone surrogate)", "correct the escape")
    return value, line


def _not_json(text: str, position: int, path: Path, why: str) -> Exception:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    reason = f"it is no JSON: {why.removesuffix(' at')} at line {line}, column {column}"
    return unreadable(path, reason, "correct the file there", line=line)


def _wrapped(value: Any, path: Path, tell: Tell) -> list[Any] | None:
    """Find the list of rows in an object such as {"data": [...], "version": ...}."""
    if not isinstance(value, dict):
        return None
    if _is_squad(value):
        tell(file_note("wrapped", path, "the questions stand inside paragraphs inside articles under 'data'"))
        return list(_squad_rows(value["data"]))
    key = _wrapper(value)
    if key is None:
        return None
    others = [repr(name) for name, held in value.items() if name != key and isinstance(held, list) and held]
    left = f"; the lists {', '.join(others[:5])} beside it are not read" if others else ""
    tell(file_note("wrapped", path, f"the rows stand under the key {key!r}{left}"))
    return list(value[key])


def _wrapper(value: dict[str, Any]) -> str | None:
    """Name the key that rows stand under: by its usual names, or the only one with a list of objects."""
    lists = [
        key for key, held in value.items() if isinstance(held, list) and any(isinstance(row, dict) for row in held)
    ]
    for key in WRAPPERS:
        if key in lists:
            return key
    holding = [key for key in lists if key not in PARTS_OF_A_ROW or _holds_rows(value[key])]
    return holding[0] if len(holding) == 1 and not PARTS_OF_A_ROW & (value.keys() - set(holding)) else None


def _holds_rows(rows: list[Any]) -> bool:
    """Say whether the objects of a list have turns of their own."""
    return all(
        isinstance(row, dict) and isinstance(row.get("messages", row.get("conversations")), list) for row in rows
    )


def _columns(value: Any, path: Path, tell: Tell) -> list[dict[str, Any]] | None:
    """Turn {"a": [1, 2], "b": [3, 4]} into rows; lists of objects are turns of one row, not columns."""
    if not isinstance(value, dict) or not _is_columns(value):
        return None
    tell(file_note("column_oriented", path, f"the file holds a list for each of {len(value):,} columns"))
    columns = [list(column.values()) if isinstance(column, dict) else column for column in value.values()]
    return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _is_columns(value: dict[str, Any]) -> bool:
    """Say whether an object holds columns: lists of one length, or objects with the same row numbers as keys."""
    columns = list(value.values())
    if not columns or len(columns) > MAX_KEYS:
        return False
    if all(isinstance(column, list) for column in columns):
        one_length = len({len(column) for column in columns}) == 1
        return one_length and not any(isinstance(cell, dict) for column in columns for cell in column)
    if not all(isinstance(column, dict) for column in columns):
        return False
    keys = list(columns[0])
    return keys == [str(number) for number in range(len(keys))] and all(list(column) == keys for column in columns)


def _is_squad(value: dict[str, Any]) -> bool:
    articles = value.get("data")
    return isinstance(articles, list) and bool(articles) and all(
        isinstance(article, dict) and isinstance(article.get("paragraphs"), list) for article in articles
    )  # fmt: skip


def _squad_rows(articles: list[dict[str, Any]]) -> Iterator[Any]:
    """Give each question a row of its own, with what stands around it."""
    for article in articles:
        for paragraph in article["paragraphs"]:
            questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
            if not isinstance(questions, list):
                yield paragraph
                continue
            around = {key: held for key, held in article.items() if key != "paragraphs"}
            around.update({key: held for key, held in paragraph.items() if key != "qas"})
            for question in questions:
                yield {**around, **question} if isinstance(question, dict) else question
