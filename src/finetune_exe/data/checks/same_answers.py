"""One answer to many questions."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_exe.data.checks.check import DataCheck, Hit
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.facts import Facts
from finetune_exe.data.checks.forms import Structure
from finetune_exe.data.checks.label_names import label_counts

_MIN_WORDS, _MIN_QUESTIONS = 8, 5
"""Words of an answer that is no label, and different questions that have it."""


def _same_answer(facts: Facts) -> Iterator[Hit]:
    """Find long answers in words that stand, the same, under several questions; data may say the same of many."""
    import numpy as np

    words = facts.words
    if facts.layouts == {"text"} or len(words) < _MIN_QUESTIONS or label_counts(facts) is not None:
        return
    is_long = (words.starts[1:] - words.answers >= _MIN_WORDS) & (words.answers > words.starts[:-1])
    long = np.flatnonzero(is_long & (facts.structures == Structure.NONE))
    order = long[np.argsort(words.answer_hashes[long], kind="stable")]
    if not len(order):
        return
    hashes = words.answer_hashes[order]
    starts = np.flatnonzero(np.concatenate(([True], hashes[1:] != hashes[:-1])))
    for first, end in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
        group = order[first:end]
        if end - first >= _MIN_QUESTIONS and len(np.unique(words.prompt_hashes[group])) >= _MIN_QUESTIONS:
            said = f"{len(group):,} questions have this answer"
            yield from (Hit(int(facts.index[place]), said) for place in group.tolist())


_SAID = "It depends on many things, so please ask somebody who knows."

CHECKS = (
    DataCheck(
        code="same_answer",
        severity="warning",
        message="the same long answer stands under many different questions",
        fix="write an answer to each, or keep one of the rows",
        find=_same_answer,
        usual=0.2,
        example=[asked(f"How deep is harbour {number}?", _SAID) for number in range(6)],
        counterexample=[asked("How deep is it?", _SAID) for _ in range(6)],
    ),
)
