"""Answers far shorter, and rows far longer, than the others."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_exe.data.checks.check import DataCheck, Hit
from finetune_exe.data.checks.example import asked, text
from finetune_exe.data.checks.facts import Facts

_MIN_MEDIAN_WORDS = 8
"""Where answers are mostly short, a short one is no outlier."""
_MIN_CHARACTERS = 16_000
"""Some 4,000 tokens of English: 81 of 28,986 rows of public files are longer."""
_TIMES = 10
"""How many times as long as the longest one in a hundred rows."""
_FEW_ROWS = 300
"""Below so many rows, outliers themselves would move the longest one in a hundred; one in twenty is taken."""


def _too_short(facts: Facts) -> Iterator[Hit]:
    import numpy as np

    if len(facts) and np.median(facts.answer_words) >= _MIN_MEDIAN_WORDS:
        yield from (Hit(index) for index in facts.index[facts.is_short].tolist())


def _too_long(facts: Facts) -> Iterator[Hit]:
    import numpy as np

    if not len(facts):
        return
    usual = float(np.quantile(facts.characters, 0.99 if len(facts) >= _FEW_ROWS else 0.95, method="lower"))
    limit = max(_MIN_CHARACTERS, _TIMES * usual)
    for place in np.flatnonzero(facts.characters > limit).tolist():
        yield Hit(int(facts.index[place]), f"{facts.characters[place]:,} characters")


_USUAL = [
    asked("Explain it.", f"It is number {number} of the things that one can explain in a few words.")
    for number in range(9)
]

CHECKS = (
    DataCheck(
        code="too_short",
        severity="info",
        message="the answer is one short word though more is asked for",
        fix="write the answer, or drop the row",
        find=_too_short,
        example=[*_USUAL, asked("Write a poem about nature.", "ok")],
        counterexample=[*_USUAL, asked("What is 12 times 12?", "144"), asked("Is water wet?", "Yes")],
    ),
    DataCheck(
        code="too_long",
        severity="warning",
        message="the row is many times as long as the longest usual ones, so most of it would be cut off",
        fix="cut it in pieces, or drop the row",
        find=_too_long,
        example=[*_USUAL * 3, asked("Explain it.", "word " * 40_000)],
        counterexample=[text("word " * 1000 * number) for number in range(1, 30)],
    ),
)
