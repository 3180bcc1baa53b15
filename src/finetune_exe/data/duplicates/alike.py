"""Judge pairs word by word: how much of two texts is the same, in the same order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetune_exe.data.duplicates.rows import gather
from finetune_exe.data.duplicates.words import HASH_BITS, word_hashes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetune_exe.data.duplicates.words import Hashes, Places, Words32

_REPEAT_BITS = 12


def word_overlap(left: tuple[Words32, Places, Places], right: tuple[Words32, Places, Places]) -> NDArray[np.float64]:
    """Count the words two stretches share, as often as both have them, over their mean length; 1 for two empty ones.

    Args:
        left: Words, and where the stretch of each pair begins and ends.
        right: The same for the other one.
    """
    import numpy as np

    number = len(left[1])
    keys = []
    for words, first, after in (left, right):
        taken = gather(words, first, after - first)
        pair = np.repeat(np.arange(number, dtype=np.uint64), np.diff(taken.starts)) << np.uint64(HASH_BITS)
        keys.append(_numbered(np.sort(pair | word_hashes(taken.words))))
    shared = np.intersect1d(keys[0], keys[1], assume_unique=True) >> np.uint64(HASH_BITS + _REPEAT_BITS)
    lengths = (left[2] - left[1]) + (right[2] - right[1])
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
