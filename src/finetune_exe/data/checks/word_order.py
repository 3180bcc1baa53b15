"""English text whose words stand in no order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from finetune_exe.data.checks.check import DataCheck, Hit
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.facts import Facts
from finetune_exe.data.checks.forms import Structure
from finetune_exe.data.duplicates.words import MARK_FOLLOWS, hash_words, word_hashes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NEVER_FOLLOWED_BY = {
    "the": "the a an of to in and is that with as on be are by this or from you we have has not their they he his "
    "which were if",
    "a": "the an of to that it as are this you your we have not will their they he his but if",
    "an": "the of to and is that for with as on",
    "of": "be are we can have has will they he were if",
    "to": "to for with on was from at we i has will they he were if",
    "in": "be are we can have has not will they but if",
    "is": "with be are was we can have has will they if",
    "for": "is be are was from can have has will they",
    "it": "of this",
    "with": "for with be are by can has",
    "as": "and be or can have has",
    "on": "of on be can have has he if",
    "be": "and is are can",
    "are": "that it be are can has he",
    "was": "is",
    "by": "is that for as on are can",
    "this": "the that it are this or you",
    "or": "this or can",
    "from": "in is with as on are",
    "at": "to in is for",
    "you": "of it",
    "your": "the a of to in and is that for",
    "we": "the a of to in and is",
    "has": "with are",
    "not": "and is",
    "will": "of to in is for",
    "their": "the a of to in and is that for",
    "they": "the a of to in and is that for",
    "he": "the of to in that for it with as on are",
    "his": "the a of to in and is that for",
    "but": "and",
    "which": "and for",
    "were": "and",
    "more": "a that",
    "if": "is as on",
}
"""Pairs of common English words that chance would put side by side, with no mark between, a hundred times as often as
the 7,000 public questions and answers do in which they were counted."""
_MIN_PAIRS, _MANY_PAIRS, _MIN_SHARE = 2, 3, 0.02
_SHORT = 80
"""Such pairs in a text of so many words, in a longer one, and their share of its words: shuffled words have one in
forty."""
_LOW_BITS = 16
"""Bits of a hash by which words are looked up; the few words of the table fall on different places."""


class _Tables(NamedTuple):
    """How pairs of words are looked up."""

    number_of: NDArray[np.uint16]
    """By the low bits of a hash: the number of a common word, or 0. Other words have the same bits now and then."""
    hashes: NDArray[np.uint32]
    """The whole hash of each number."""
    is_rare: NDArray[np.bool_]
    """By the number of a word times that of words, plus the number of the next one."""


@cache
def _tables() -> _Tables:
    import numpy as np

    words = sorted({*_NEVER_FOLLOWED_BY, *" ".join(_NEVER_FOLLOWED_BY.values()).split()})
    hashes = np.concatenate(([np.uint32(0)], word_hashes(hash_words(words).words)))
    number_of = np.zeros(1 << _LOW_BITS, np.uint16)
    number_of[hashes[1:] & np.uint32((1 << _LOW_BITS) - 1)] = np.arange(1, len(hashes))
    is_rare = np.zeros(len(hashes) ** 2, np.bool_)
    for first, others in _NEVER_FOLLOWED_BY.items():
        for second in others.split():
            is_rare[(words.index(first) + 1) * len(hashes) + words.index(second) + 1] = True
    return _Tables(number_of, hashes, is_rare)


def _shuffled(facts: Facts) -> Iterator[Hit]:
    import numpy as np

    words = facts.words.words
    if len(words) < _MIN_PAIRS:
        return
    tables = _tables()
    numbers = tables.number_of[words & np.uint32((1 << _LOW_BITS) - 1)]
    pairs = np.flatnonzero(tables.is_rare[numbers[:-1] * np.uint16(len(tables.hashes)) + numbers[1:]])
    plain = word_hashes(words)
    sure = (plain[pairs] == tables.hashes[numbers[pairs]]) & (plain[pairs + 1] == tables.hashes[numbers[pairs + 1]])
    pairs = pairs[sure & (words[pairs] >> np.uint32(MARK_FOLLOWS) == 0)]
    counts = np.searchsorted(pairs, facts.words.starts[1:] - 1) - np.searchsorted(pairs, facts.words.answers)
    lengths = facts.words.starts[1:] - facts.words.answers
    least = np.where(lengths > _SHORT, _MANY_PAIRS, _MIN_PAIRS)
    prose = facts.structures != Structure.PYTHON
    for place in np.flatnonzero(prose & (counts >= least) & (counts >= _MIN_SHARE * lengths)).tolist():
        yield Hit(int(facts.index[place]), f"{counts[place]} pairs of words that never follow each other")


_ORDERED = (
    "The harbour of the town was dug by hand in the winter of the great frost, and it lets the boats rest when the "
    "sea is rough. It is one of the few that a ship can enter at any time of the day."
)
_DISORDERED = (
    "the of harbour town the was hand by dug the in great winter frost the of it and boats the lets rest is when sea "
    "the rough few of it is the one that the a ship at can any enter of time day the."
)

CHECKS = (
    DataCheck(
        code="shuffled_words",
        severity="warning",
        message="the words of the answer stand in no order",
        fix="take the text from its source again, or drop the row",
        find=_shuffled,
        usual=0.2,
        example=[asked("How was it built?", _ORDERED), asked("How was it built?", _DISORDERED)],
        counterexample=[asked("How was it built?", _ORDERED), asked("Name two articles.", "The, a.")],
    ),
)
