"""Texts that say the same over and over, as a model does that cannot stop."""

from __future__ import annotations

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.row import RowView

_PROBE = 20
"""Characters of a place that are looked for again."""
_MIN_RUN = 60
"""Characters that a loop must go on for."""
_SHORT_UNIT, _SHORT_REPEATS, _REPEATS = 6, 12, 4
"""A unit of few characters must come more often than a long one: "ha ha ha" is a laugh."""
_PLACES = 12
_LONGEST_UNIT = 2000


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
    if run < max(_MIN_RUN, repeats * period) or sum(map(str.isalnum, unit)) * 3 < period:
        return None
    if len(set(unit)) == 1 and run < 4 * _MIN_RUN:
        return None
    return unit


def _find(row: RowView) -> str | None:
    for answer in row.answers:
        unit = find_loop(answer)
        if unit is not None:
            return shorten(unit)
    return None


CHECKS = (
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
