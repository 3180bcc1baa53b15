"""Shingles: all runs of n words of a row, as 64-bit hashes, and how alike two rows are by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from finetune_exe.data.duplicates.pairs import RowPairs
from finetune_exe.data.duplicates.rows import RowWords
from finetune_exe.data.duplicates.words import THREADS, Hashes, Places, Words32, begins, mix, word_hashes

Result = TypeVar("Result")

SHINGLE_WORDS = 5
"""Words of a run, as likeness is measured elsewhere. Source: datatrove, MinhashConfig, n_grams (2025)."""
CHUNK_WORDS = 1 << 19
"""Shingles are made for so many words at a time, so that memory does not grow with the number of rows."""
PART_WORDS = 1 << 20
"""Pairs are compared in parts of about so many words, so that memory does not grow with their number."""
_PAIR_BITS, _KEY_BITS = 23, 40
"""Bits of a number of 64 for a pair and for a run of words; the last says which of the two rows has it."""
_SLOT_BITS = 10
SLOTS = 1 << _SLOT_BITS
"""More than a row of usual length has runs, so that few share a slot."""
_PAIRS_AT_ONCE = 1 << 13
"""Pairs whose slots are held at a time: 8 MiB for either side."""


class Shingles(NamedTuple):
    """The shingles of some rows, in their order."""

    hashes: Hashes
    rows: Places
    """The row of each shingle."""
    num_rows: int


class Shared(NamedTuple):
    """Distinct shingles of the two rows of every pair."""

    both: Places
    left: Places
    right: Places

    def jaccard(self) -> NDArray[np.float64]:
        """Shingles of both over shingles of either; 1 where neither has any."""
        either = self.left + self.right - self.both
        return np.where(either > 0, self.both / np.maximum(either, 1), 1.0)

    def contained(self) -> NDArray[np.float64]:
        """Share of the shingles of the left row that the right one has too."""
        return self.both / np.maximum(self.left, 1)


def shingles(words: Words32, starts: Places, *, size: int = SHINGLE_WORDS) -> Shingles:
    """Hash every run of `size` words of every row; a shorter row is one shingle, an empty row none.

    Args:
        words: Words of all rows.
        starts: Where each row begins, and the end of the last.
        size: Words of a shingle.
    """
    lengths = np.diff(starts)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    salted = mix(word_hashes(words).astype(np.uint64) + np.uint64(1))
    rolled = salted.copy()
    for step in range(1, min(size, len(salted))):
        rolled *= np.uint64(0x9FB21C651E98DF25)
        rolled[: len(salted) - step] += salted[step:]
    left = np.repeat(starts[1:], lengths) - np.arange(len(words)) - starts[0]
    whole = left >= size
    short = np.flatnonzero((lengths < size) & (lengths > 0))
    first = starts[:-1][short] - starts[0]
    hashes, of_row = mix(rolled[whole]), rows[whole]
    if len(short):
        position = np.searchsorted(of_row, short)
        hashes = np.insert(hashes, position, _short(salted, first, lengths[short]))
        of_row = np.insert(of_row, position, short)
    return Shingles(hashes, of_row, len(lengths))


def _short(salted: Hashes, first: Places, lengths: Places) -> Hashes:
    hashes = np.zeros(len(first), np.uint64)
    for step in range(int(lengths.max())):
        more = lengths > step
        hashes[more] = mix(hashes[more] + salted[first[more] + step])
    return hashes


class RowRange(NamedTuple):
    """Rows that follow each other."""

    first: int
    after: int


def row_ranges(rows: RowWords) -> list[RowRange]:
    """Divide rows into ranges of about `CHUNK_WORDS` words."""
    ranges, first = [], 0
    while first < len(rows):
        after = int(np.searchsorted(rows.starts, rows.starts[first] + CHUNK_WORDS, "right")) - 1
        ranges.append(RowRange(first, max(first + 1, after)))
        first = ranges[-1].after
    return ranges


def shingles_of(rows: RowWords, part: RowRange, *, size: int = SHINGLE_WORDS) -> Shingles:
    """Make the shingles of some rows."""
    starts = rows.starts[part.first : part.after + 1]
    made = shingles(rows.words[starts[0] : starts[-1]], starts, size=size)
    return Shingles(made.hashes, made.rows + part.first, made.num_rows)


def each_chunk(rows: RowWords) -> Iterator[Shingles]:
    """Yield the shingles of all rows, some rows at a time."""
    return (shingles_of(rows, part) for part in row_ranges(rows))


def in_parts(work: Callable[[int, int], Result], lengths: Places, *, most_pairs: int = 1 << _PAIR_BITS) -> list[Result]:
    """Work on many pairs some at a time, in threads.

    Args:
        work: Called with the numbers of the first pair of a part, and of the one behind its last.
        lengths: Words of each pair.
        most_pairs: Pairs of a part.

    Returns:
        What came of each part, in order.
    """
    bounds = np.searchsorted(np.cumsum(lengths), np.arange(0, lengths.sum() + PART_WORDS, PART_WORDS), "right")
    cuts = np.unique(np.concatenate((bounds, np.arange(0, len(lengths), most_pairs), [0, len(lengths)])))
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, *zip(*pairwise(cuts.tolist()), strict=True))) if len(cuts) > 1 else []


def shared_shingles(left: RowWords, right: RowWords, pairs: RowPairs, *, size: int = SHINGLE_WORDS) -> Shared:
    """Count the distinct shingles that the rows of each pair share, and those that either has."""
    parts = in_parts(
        lambda first, after: _shared(left, right, pairs.where(slice(first, after)), size),
        left.lengths[pairs.left] + right.lengths[pairs.right],
    )
    none = np.zeros(0, np.int64)
    return Shared(*(np.concatenate([part[side] for part in parts] or [none]) for side in range(3)))


def may_be_contained(
    inner: RowWords, outer: RowWords, pairs: RowPairs, share: float, *, size: int = SHINGLE_WORDS
) -> NDArray[np.bool_]:
    """Rule out pairs whose inner row has too many shingles that the outer one has not.

    Each shingle is one of `SLOTS` slots. A slot that is empty for the outer row is a shingle it lacks, so that nothing
    is ruled out of which it has the share; what is left is to be counted. It takes a third of the time of counting.

    Args:
        inner: Where the inner rows are, those on the left.
        outer: Where the outer rows are, those on the right.
        pairs: The pairs.
        share: Least share of the distinct shingles of the inner row that the outer one must have.
        size: Words of a shingle.
    """

    def look(first: int, after: int) -> NDArray[np.bool_]:
        number = after - first
        held = np.zeros(number * SLOTS, np.bool_)
        held[_slots(outer, pairs.right[first:after], size)] = True
        wanted = _slots(inner, pairs.left[first:after], size)
        lacking = np.zeros(number * SLOTS, np.bool_)
        lacking[wanted[~held[wanted]]] = True
        num_lacking = np.count_nonzero(lacking.reshape(number, SLOTS), axis=1)
        num_wanted = np.bincount(wanted >> _SLOT_BITS, minlength=number)
        possible: NDArray[np.bool_] = num_lacking <= (1 - share) * num_wanted + 1e-6
        return possible

    lengths = inner.lengths[pairs.left] + outer.lengths[pairs.right]
    return np.concatenate([np.zeros(0, np.bool_), *in_parts(look, lengths, most_pairs=_PAIRS_AT_ONCE)])


def _slots(rows: RowWords, chosen: Places, size: int) -> Places:
    """Number the slot of every shingle of some rows, those of row i from i times `SLOTS` on."""
    made = shingles(*rows.whole(chosen).copy(), size=size)
    return made.rows << _SLOT_BITS | (made.hashes & np.uint64(SLOTS - 1)).astype(np.int64)


def _shared(left: RowWords, right: RowWords, pairs: RowPairs, size: int) -> Shared:
    """Sort the shingles of all pairs at once: those of both rows come to stand beside each other."""
    keys = []
    for side, (rows, chosen) in enumerate(((left, pairs.left), (right, pairs.right))):
        made = shingles(*rows.whole(chosen).copy(), size=size)
        pair = made.rows.astype(np.uint64) << np.uint64(_KEY_BITS + 1)
        keys.append(pair | (made.hashes >> np.uint64(64 - _KEY_BITS) << np.uint64(1)) | np.uint64(side))
    joined = np.concatenate(keys)
    joined.sort()
    joined = joined[begins(joined)]
    number = (joined >> np.uint64(_KEY_BITS + 1)).astype(np.int64)
    on_right = (joined & np.uint64(1)).astype(np.bool_)
    twice = joined[1:] >> np.uint64(1) == joined[:-1] >> np.uint64(1)
    counts = (number[1:][twice], number[~on_right], number[on_right])
    return Shared(*(np.bincount(found, minlength=len(pairs.left)) for found in counts))
