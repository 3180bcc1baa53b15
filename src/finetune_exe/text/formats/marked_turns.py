"""Turns that stand in one text, each behind a mark that says whose it is, such as `Q:` and `A:`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.formats.format import Row
from finetune_exe.text.formats.read_only import ReadOnlyFormat

USUAL_SHARE = 0.9
"""Share of the texts that go from one mark to another, where that is the way they are made."""
MOST_CHARACTERS = 8000
"""Longer texts are documents, not a question with its answer."""
_SPEAKERS = "Instruction|Input|Prompt|Question|Human|User|Response|Output|Answer|Assistant|Completion"
_EDGE = re.compile(
    r"^(?:#{0,4} ?[A-Z][A-Za-z ]{0,24}:|<[a-z]{2,12}>:)|(?:^|(?<=\s))(?:USER|ASSISTANT):"
    rf"|#{{2,4}} ?(?:{_SPEAKERS})\b:?",
    re.MULTILINE,
)
_ANYWHERE = re.compile(r"[^\w\s]|[A-Z]{3,}\W*\Z")
"""How marks begin that stand anywhere in a line; others stand at its beginning, for they are words."""


class TurnMarks(NamedTuple):
    """What stands before each question, and before each answer."""

    asks: str
    answers: str


def edge_marks(text: str) -> TurnMarks | None:
    """Give the first and the last mark of a text, where they differ."""
    if len(text) > MOST_CHARACTERS or not (":" in text or "##" in text):
        return None
    marks = _EDGE.findall(text)
    return TurnMarks(marks[0], marks[-1]) if marks and marks[0] != marks[-1] else None


def usual_marks(counts: Counter[TurnMarks], num_texts: int) -> TurnMarks | None:
    """Give the marks that nearly all texts have at their edges."""
    if not counts:
        return None
    marks, count = counts.most_common(1)[0]
    return marks if count >= USUAL_SHARE * num_texts else None


def marks_in_columns(rows: Sequence[Row]) -> TurnMarks | None:
    """Find the marks of a column that holds whole dialogues."""
    objects = [row for row in rows if isinstance(row, dict)]
    for column in dict.fromkeys(key for row in objects[:50] for key in row):
        texts = [text for row in objects if isinstance(text := row.get(column), str)]
        found = Counter(marks for text in texts if (marks := edge_marks(text)) is not None)
        if (marks := usual_marks(found, len(rows))) is not None:
            return marks
    return None


def with_turns(marks: TurnMarks) -> ReadOnlyFormat:
    """Make the format of rows one text of which is to be parted at these marks."""
    pattern = re.compile("|".join(_alternatives(marks)), re.MULTILINE)

    def build(row: dict[str, Any]) -> Conversation | RowFault:
        column = next((key for key, text in row.items() if isinstance(text, str) and pattern.search(text)), None)
        if column is None:
            return _unclear(f"no text of the row holds {marks.asks!r} or {marks.answers!r}")
        turns = _part(row[column], marks, pattern)
        if isinstance(turns, RowFault):
            return turns
        return Conversation(kind="chat", messages=turns, extra={key: row[key] for key in row if key != column})

    return ReadOnlyFormat(
        name="completion",
        needs="text",
        shows=f"are parted at {marks.asks!r} and {marks.answers!r}, as you said",
        claims=lambda _: True,
        build=build,
    )


def _alternatives(marks: TurnMarks) -> Iterable[str]:
    for mark in sorted(marks, key=len, reverse=True):
        before = "" if _ANYWHERE.match(mark) else r"^[^\S\n]*"
        yield before + re.escape(mark) + (r"\b" if mark[-1].isalnum() else "")


def _part(text: str, marks: TurnMarks, pattern: re.Pattern[str]) -> tuple[Message, ...] | RowFault:
    """Part a text into turns; white space around them goes, and what stands before the first is the system's."""
    found = list(pattern.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)]
    opening = text[: found[0].start()].strip()
    turns = [Message(role="system", content=opening)] if opening else []
    for number, (match, end) in enumerate(zip(found, ends, strict=True)):
        expected = marks.answers if number % 2 else marks.asks
        content = text[match.end() : end].strip()
        if match[0].strip() != expected:
            return _unclear(f"mark {number + 1} of the text is {match[0].strip()!r}, not {expected!r}")
        if not content:
            return _unclear(f"nothing stands behind mark {number + 1} of the text, {expected!r}")
        turns.append(Message(role="assistant" if number % 2 else "user", content=content))
    return _unclear(f"no {marks.answers!r} follows the last {marks.asks!r}") if len(found) % 2 else tuple(turns)


def _unclear(message: str) -> RowFault:
    return RowFault(
        code="turns_unclear",
        message=message,
        fix="part the row by hand, or name other marks with --turns",
    )
