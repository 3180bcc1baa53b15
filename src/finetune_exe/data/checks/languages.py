"""Rows in another language than the data is in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from finetune_exe.data.checks.check import DataCheck, Hit
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.facts import Facts
from finetune_exe.data.checks.tongue import alike

_MIN_SHARE = 0.8
"""Share of the answers whose language can be told that must be in the main one."""
_MIN_ROWS = 6
"""Fewer answers show no main language: one of five is already a fifth."""


def _wrong_language(facts: Facts) -> Iterator[Hit]:
    counts = Counter(facts.languages)
    known = sum(count for language, count in counts.items() if language is not None)
    if known < _MIN_ROWS:
        return
    main, count = max(((language, count) for language, count in counts.items() if language), key=lambda pair: pair[1])
    if count < _MIN_SHARE * known:
        return
    usual = alike(main)
    for place, language in enumerate(facts.languages):
        if language is not None and language not in usual and not facts.names_language[place]:
            yield Hit(int(facts.index[place]), f"{language}, not {main}")


_USUAL = [asked("Where is it?", f"It is in the house that stands by the road number {number}.") for number in range(30)]
_GERMAN = "Das Haus, in dem wir wohnen, steht an der Stra\u00dfe, die nach Norden f\u00fchrt."

CHECKS = (
    DataCheck(
        code="wrong_language",
        severity="warning",
        message="the answer is in another language than the data, and nobody asked for that",
        fix="translate it, or drop the row",
        find=_wrong_language,
        usual=0.06,
        example=[*_USUAL, asked("Describe a mojito.", _GERMAN)],
        counterexample=[*_USUAL, asked("Answer in German: where do you live?", _GERMAN)],
    ),
)
