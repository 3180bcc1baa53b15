"""Texts that are labelled twice, and differently."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_exe.data.checks.check import DataCheck, Hit
from finetune_exe.data.checks.example import labelled
from finetune_exe.data.checks.facts import Facts
from finetune_exe.data.checks.label_names import canonical, label_counts


def _conflicting_duplicate(facts: Facts) -> Iterator[Hit]:
    """Find equal texts with labels that differ by more than their spelling; of three, the odd one out."""
    if label_counts(facts) is None:
        return
    for place, other in _conflicts(facts):
        mine, theirs = facts.labels[place], facts.labels[other]
        if mine is not None and theirs is not None and canonical(mine) != canonical(theirs):
            yield Hit(int(facts.index[place]), f"{mine[:30]!r} and {theirs[:30]!r}", of_row=int(facts.index[other]))


def _conflicts(facts: Facts) -> Iterator[tuple[int, int]]:
    """Give the places of rows whose prompt has come before with another answer, and of the first such row."""
    import numpy as np

    if not len(facts):
        return
    order = np.argsort(facts.prompt_key, kind="stable")
    keys = facts.prompt_key[order]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    ends = np.append(starts[1:], len(keys))
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if end - start < 2 or keys[start] == 0:
            continue
        first = int(order[start])
        for place in order[start + 1 : end].tolist():
            if facts.answer_key[place] != facts.answer_key[first]:
                yield place, first


_LABELLED = [labelled(f"Text number {number}.", ("card_lost", "pin_blocked")[number % 2]) for number in range(12)]

CHECKS = (
    DataCheck(
        code="conflicting_duplicate",
        severity="error",
        message="the same text has another label elsewhere",
        fix="keep the right label",
        find=_conflicting_duplicate,
        usual=0.2,
        example=[*_LABELLED, labelled("Text number 1.", "card_lost")],
        counterexample=[*_LABELLED, labelled("Text number 1.", "PIN_blocked")],
    ),
)
