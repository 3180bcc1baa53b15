"""Answers that break off, judged by how the others end."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_exe.data.checks.check import DataCheck, Hit
from finetune_exe.data.checks.ending import OpenEnd
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.facts import TAIL_CHARACTERS, Facts

_MAX_OPEN = 0.05
"""Share of prose answers without a mark at the end, above which such an end says nothing here."""
_MIN_PROSE = 50
"""Fewer prose answers show no custom."""
_MAX_BROKEN = 0.2
"""Share of answers that break off in a clause, above which that is how this data is."""


def _truncated(facts: Facts) -> Iterator[Hit]:
    import numpy as np

    prose = int((facts.end >= OpenEnd.CLOSED).sum())
    if not prose:
        return
    num_open = int((facts.end >= OpenEnd.BARE).sum())
    num_broken = int((facts.end == OpenEnd.BROKEN).sum())
    if num_broken > _MAX_BROKEN * prose:
        return
    customary = prose >= _MIN_PROSE and num_open <= _MAX_OPEN * prose
    least = OpenEnd.OPEN if customary else OpenEnd.BROKEN
    for place in np.flatnonzero(facts.end >= least).tolist():
        tail = " ".join(facts.tails[place].split())
        yield Hit(int(facts.index[place]), f"...{tail}" if len(facts.tails[place]) == TAIL_CHARACTERS else tail)


_USUAL = [asked("Explain it.", f"It is number {number} of the things that one can explain.") for number in range(60)]

CHECKS = (
    DataCheck(
        code="truncated_output",
        severity="warning",
        message="the answer breaks off in the middle of a sentence or of code",
        fix="complete the answer, or drop the row",
        find=_truncated,
        example=[
            *_USUAL,
            asked("Add two numbers.", "```js\nfunction add(a, b) {\n  return a\n```"),
            asked("Why does it matter?", "It protects the people. It exists to guard the rights and"),
        ],
        counterexample=[
            *_USUAL,
            asked("Name three fruits.", "- apple\n- fig\n- pear"),
            asked("Who wrote it?", "Jane Austen"),
            asked("Which is it?\n\nA. the rights and\nB. the duties and", "B. the duties and"),
        ],
    ),
)
