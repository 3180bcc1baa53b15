"""Judge pairs word by word: how much of two texts is the same, in the same order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from finetune_exe.data.duplicates.rows import gather
from finetune_exe.data.duplicates.words import HASH_BITS, THREADS, word_hashes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetune_exe.data.duplicates.words import Hashes, Places, Words32

CHUNK_WORDS = 1 << 20
"""Pairs are compared in parts of about so many words, so that memory does not grow with their number."""
_REPEAT_BITS = 12


class Stretches(NamedTuple):
    """Stretches of an array of words."""

    words: Words32
    first: Places
    after: Places

    @property
    def lengths(self) -> Places:
        """Words of each."""
        return self.after - self.first

    def part(self, start: int, end: int) -> Stretches:
        """Take some, from number `start` up to `end`."""
        return Stretches(self.words, self.first[start:end], self.after[start:end])


def word_overlap(left: Stretches, right: Stretches) -> NDArray[np.float64]:
    """Count the words two stretches share, as often as both have them, over their mean length; 1 for two empty ones."""
    import numpy as np

    total = np.cumsum(left.lengths + right.lengths)
    cuts = np.searchsorted(total, np.arange(0, total[-1] + CHUNK_WORDS, CHUNK_WORDS), "right") if len(total) else total
    cuts = np.unique(np.concatenate(([0], cuts, [len(total)])))
    with ThreadPoolExecutor(THREADS) as pool:
        parts = pool.map(lambda cut: _overlap(left.part(*cut), right.part(*cut)), pairwise(cuts.tolist()))
        return np.concatenate([np.zeros(0), *parts])


def _overlap(left: Stretches, right: Stretches) -> NDArray[np.float64]:
    import numpy as np

    number = len(left.first)
    keys = []
    for side in (left, right):
        taken = gather(side.words, side.first, side.lengths)
        pair = np.repeat(np.arange(number, dtype=np.uint64), side.lengths) << np.uint64(HASH_BITS)
        keys.append(_numbered(np.sort(pair | word_hashes(taken.words))))
    joined = np.sort(np.concatenate(keys))
    shared = joined[1:][joined[1:] == joined[:-1]] >> np.uint64(HASH_BITS + _REPEAT_BITS)
    lengths = left.lengths + right.lengths
    both = np.bincount(shared.astype(np.int64), minlength=number)
    return np.where(lengths > 0, 2 * both / np.maximum(lengths, 1), 1.0)


def _numbered(ordered: Hashes) -> Hashes:
    """Number equal keys, so that each is found as often as both have it."""
    import numpy as np

    position = np.arange(len(ordered))
    begins = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=begins[1:])
    repeat = position - np.maximum.accumulate(np.where(begins, position, 0))
    return ordered << np.uint64(_REPEAT_BITS) | np.minimum(repeat, (1 << _REPEAT_BITS) - 1).astype(np.uint64)


def common_order(one: Words32, other: Words32) -> float:
    """Length of the longest common subsequence of two word arrays over their mean length; 1 for two empty ones.

    Source: the bit-parallel form of Hyyro, Bit-parallel LCS-length computation revisited, AWOCA 2004.
    """
    if not len(one) + len(other):
        return 1.0
    places: dict[int, int] = {}
    for position, word in enumerate(one.tolist()):
        places[word] = places.get(word, 0) | 1 << position
    full = (1 << len(one)) - 1
    row = full
    for word in other.tolist():
        matches = row & places.get(word, 0)
        row = (row + matches | row - matches) & full
    return 2 * (len(one) - row.bit_count()) / (len(one) + len(other))
