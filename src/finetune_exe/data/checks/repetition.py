"""Texts that say the same over and over, as a model does that cannot stop."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked, turns
from finetune_exe.data.checks.row import RowView
from finetune_exe.text.conversation import Role

_PROBE = 20
"""Characters of a place that are looked for again."""
_MIN_RUN = 60
"""Characters that a loop must go on for."""
_SHORT_UNIT, _SHORT_REPEATS, _REPEATS = 6, 12, 4
"""A unit of few characters must come more often than a long one: "ha ha ha" is a laugh."""
_PLACES = 12
"""Places from which a long text is looked through; the loop of a model goes on to the end, where the first is."""
_MIN_DOUBLED, _GAP = 100, 4
"""Characters of a text that is not said twice by chance, and those that may stand between its halves."""
_LONGEST_UNIT = 2000
"""Characters that are said again and again: some 500 tokens, and looking further back takes its time."""
_COUNTED, _LAST = 1200, 8
"""Characters at the end of a text in which a loop with numbers is looked for, and those that tell whether it may be."""
_ENDS = " \n.,:;!?)0123456789\u3002\uff01\uff1f"
_COUNTER = re.compile(r"(?:(?<=\s)|^)[#(]?\d{1,4}[.,):\uff1a\u3001-]?(?=\s|[^\W\d])|(?<![\d.])\d{1,4}[.):\u3001](?!\d)")
"""A number that counts."""
_MARK = re.compile(r"[^\w\s]+")
_MIN_TURNS = 3
"""How often a question and its answer must come."""
_MIN_WORDS, _MIN_LETTERS, _MIN_WIDE = 2, 6, 4
"""Letters of a unit that is said, and no sign of a formula."""


def find_loop(text: str) -> str | None:
    """Give the words that a text repeats one after the other, or None."""
    length = len(text)
    if length < _MIN_RUN:
        return None
    step = max(_MIN_RUN, length // _PLACES)
    for start in (length - _PROBE, *range(length - _PROBE - step, -1, -step)):
        before = text.rfind(text[start : start + _PROBE], max(0, start - _LONGEST_UNIT), start + _PROBE - 1)
        if before < 0:
            continue
        unit = _looping_unit(text, start, start - before)
        if unit is not None:
            return unit
    return None


def _looping_unit(text: str, place: int, period: int) -> str | None:
    """Give the unit where the text around a place repeats itself with that period often enough."""
    first = place
    while first >= period and text[first - period : first] == text[first : first + period]:
        first -= period
    last = place + period
    while text[last - period : last] == text[last : last + period]:
        last += period
    while last < len(text) and text[last] == text[last - period]:
        last += 1
    run = last - first
    repeats = _REPEATS if period > _SHORT_UNIT else _SHORT_REPEATS
    unit = text[first : first + period]
    if run < max(_MIN_RUN, repeats * period - period // 2) or sum(map(_is_said, unit)) * 3 < period:
        return None
    if len(set(unit)) == 1 and run < (4 * _MIN_RUN if unit.isascii() else 2 * _MIN_RUN - _PROBE):
        return None
    return unit


def _is_said(character: str) -> bool:
    """Whether a character is a letter, a digit or a small picture; rulers are made of other signs."""
    return character.isalnum() or character >= "\U0001f300"


def find_counted_loop(text: str) -> str | None:
    """Give the words that a text repeats with a number or other marks before or behind them, or None."""
    plain = _MARK.sub(" ", _COUNTER.sub(" ", text[-_COUNTED:])).casefold()
    unit = find_loop(" ".join(plain.split()))
    if unit is None or (unit.isascii() and unit.count(" ") < _MIN_WORDS):
        return None
    return unit if sum(map(str.isalpha, unit)) >= (_MIN_LETTERS if unit.isascii() else _MIN_WIDE) else None


def _is_doubled(answer: str) -> bool:
    """Whether a text is the same words twice and nothing else."""
    half = len(answer) // 2
    place = answer.find(answer[:_PROBE], max(1, half - _GAP), half + _GAP + _PROBE)
    return place > 0 and answer[:place].strip() == answer[place:].strip()


def _may_count(answer: str) -> bool:
    """Whether the last letters of an answer stand before several times, numbers and marks left out."""
    ended = answer.rstrip(_ENDS)
    last = ended[-_LAST:] if ended.isascii() else ended[-_LAST // 2 :]
    return answer.count(last, -_COUNTED) >= _REPEATS


def _find(row: RowView) -> str | None:
    for answer in row.answers:
        if len(answer) < _MIN_RUN:
            continue
        if len(answer) >= _MIN_DOUBLED and _is_doubled(answer):
            return shorten(answer)
        unit = find_loop(answer)
        if unit is None and _may_count(answer):
            unit = find_counted_loop(answer)
        if unit is not None:
            return shorten(unit)
    return None


def _repeated_turns(row: RowView) -> str | None:
    """Find a question and its answer that come several times, one pair right after the other."""
    messages = row.messages
    if len(messages) < 2 * _MIN_TURNS:
        return None
    said = [(message.role, message.content) for message in messages]
    run = 0
    for number in range(2, len(said)):
        same = said[number] == said[number - 2] and said[number][0] in ("user", "assistant")
        run = run + 1 if same and said[number][1].strip() else 0
        if run >= 2 * (_MIN_TURNS - 1):
            return shorten(said[number][1])
    return None


_THANKED: tuple[tuple[Role, str], ...] = (("user", "thanks"), ("assistant", "You are welcome!"))

CHECKS = (
    RowCheck(
        code="repeated_turns",
        severity="warning",
        message="the same question and answer come again and again in one conversation",
        fix="keep one of them",
        find=_repeated_turns,
        layouts=frozenset({"turns"}),
        example=turns(*_THANKED, *_THANKED, *_THANKED, *_THANKED),
        counterexample=turns(*_THANKED, *_THANKED),
    ),
    RowCheck(
        code="repetition_loop",
        severity="warning",
        message="the text repeats the same words over and over",
        fix="cut the text before the loop, or drop the row",
        find=_find,
        example=asked("Make a problem.", "How many apples does " + "John have 12 apples " * 12),
        counterexample=asked("Laugh and rule.", "Ha ha ha ha ha!\n" + "-" * 80 + "\n| a | b |\n" + "=" * 80),
    ),
)
