"""Find pairs of rows that share runs of words few others have: edited copies, and rows that stand inside others."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetune_exe.data.duplicates.pairs import RowPairs
from finetune_exe.data.duplicates.rows import RowWords
from finetune_exe.data.duplicates.shingles import RowRange, row_ranges, shingles_of
from finetune_exe.data.duplicates.words import THREADS, Hashes, Places, begins

RARE_SHINGLE_WORDS = 3
"""Runs shorter than those of `shingles`: a copy with every fourth word changed keeps runs of three, none of five."""
RARE = 6
"""Runs of words in more rows than this are common speech, or a text that MinHash finds."""
SAMPLE_OF = 3
"""One run in so many of a long row is looked at: those of more than 48 words keep about 15 or more."""
SHORT = 48
"""Rows of so many words or fewer are looked at whole, among each other."""
FEWEST_SHARED = 2
"""One rare run alone, such as a name, is shared by rows that have nothing else in common."""
BLOCK_RUNS = 1 << 20
"""Runs are compared in blocks of about so many, so that memory holds little more than the runs themselves."""


class RarePairs(NamedTuple):
    """Pairs of rows that share rare runs of words."""

    pairs: RowPairs
    of_longer: NDArray[np.float64]
    """Shared runs over those of the row that has more, common ones left out."""
    of_shorter: NDArray[np.float64]


def rare_pairs(rows: RowWords, *, across: int | None = None) -> RarePairs:
    """Pair rows that share at least two rare runs of three words.

    One in three runs of every row is looked at, chosen by its hash, and of short rows all.

    Args:
        rows: The rows.
        across: Pair only rows before this one with rows from it on; None pairs all.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        short: list[Hashes] = []
        every: list[Hashes] = []
        for samples in pool.map(partial(_samples, rows), row_ranges(rows)):
            short.append(samples.short)
            every.append(samples.every)
        found = pool.map(partial(_sharing, num_rows=len(rows), across=across), (short, every))
        pairs, longer, shorter = (np.concatenate(both) for both in zip(*found, strict=True))
    pairs, once = np.unique(pairs, return_index=True)
    return RarePairs(RowPairs(*np.divmod(pairs, max(1, len(rows)))), longer[once], shorter[once])


class _Samples(NamedTuple):
    """Runs of words with their rows: a number each, whose upper bits are the hash and whose lower bits the row."""

    short: Hashes
    """All of short rows."""
    every: Hashes
    """Some of every row."""


def _samples(rows: RowWords, part: RowRange) -> _Samples:
    """Choose the runs of words of some rows to look at."""
    made = shingles_of(rows, part, size=RARE_SHINGLE_WORDS)
    bits = np.uint64(_row_bits(len(rows)))
    keyed = made.hashes >> bits << bits | made.rows.astype(np.uint64)
    short = rows.lengths[made.rows] <= SHORT
    return _Samples(keyed[short], keyed[made.hashes % np.uint64(SAMPLE_OF) == 0])


def _row_bits(num_rows: int) -> int:
    return max(1, num_rows.bit_length())


def _sharing(
    parts: list[Hashes], *, num_rows: int, across: int | None
) -> tuple[Places, NDArray[np.float64], NDArray[np.float64]]:
    """Pair the rows of equal hashes, where there are few of them. The parts are taken out of their list.

    Returns:
        The pairs as numbers, and their shares as in `RarePairs`.
    """
    keyed = np.concatenate([np.zeros(0, np.uint64), *parts])
    parts.clear()
    keyed.sort()
    counts = np.zeros(num_rows, np.int64)
    found = [np.zeros(0, np.int64)]
    for runs in _blocks(keyed, _row_bits(num_rows)):
        block = runs[begins(runs)]
        rows = (block & np.uint64((1 << _row_bits(num_rows)) - 1)).astype(np.int64)
        hashes = block >> np.uint64(_row_bits(num_rows))
        starts = np.flatnonzero(begins(hashes))
        sizes = np.diff(np.append(starts, len(hashes)))
        counts += np.bincount(rows[np.repeat(sizes <= RARE, sizes)], minlength=num_rows)
        for size in range(2, RARE + 1):
            first = starts[sizes == size]
            for one in range(size - 1):
                for other in range(one + 1, size):
                    found.append(_apart(rows[first + one], rows[first + other], num_rows, across))
    pairs, shared = np.unique(np.concatenate(found), return_counts=True)
    kept = shared >= FEWEST_SHARED
    left, right = np.divmod(pairs[kept], max(1, num_rows))
    longer, shorter = np.maximum(counts[left], counts[right]), np.minimum(counts[left], counts[right])
    return pairs[kept], shared[kept] / longer, shared[kept] / shorter


def _blocks(keyed: Hashes, row_bits: int) -> Iterator[Hashes]:
    """Cut sorted runs where their hash changes."""
    start = 0
    while start < len(keyed):
        end = min(len(keyed), start + BLOCK_RUNS)
        last = int(keyed[end - 1]) >> row_bits << row_bits
        end += int(np.searchsorted(keyed[end:], np.uint64(last | (1 << row_bits) - 1), "right"))
        yield keyed[start:end]
        start = end


def _apart(one: Places, other: Places, num_rows: int, across: int | None) -> Places:
    """Write pairs as numbers; only those of the two sides wanted."""
    if across is not None:
        wanted = (one < across) & (other >= across)
        one, other = one[wanted], other[wanted]
    return one * num_rows + other
