"""Find pairs of rows that may share most of their shingles, without comparing all rows with all.

One-permutation MinHash: each shingle falls into one of 128 bins, a bin keeps its smallest value, an empty bin borrows
from the next one that is not. Rows that agree in all 4 bins of one of 32 bands are a pair worth verifying.

Source: Shrivastava, Densifying one permutation hashing via rotation, ICML 2014; the bands: Leskovec, Rajaraman and
Ullman, Mining of Massive Datasets, 3.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetune_exe.data.duplicates.pairs import RowPairs
from finetune_exe.data.duplicates.shingles import SHINGLE_WORDS, each_chunk
from finetune_exe.data.duplicates.words import mix

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetune_exe.data.duplicates.rows import RowWords
    from finetune_exe.data.duplicates.shingles import Shingles
    from finetune_exe.data.duplicates.words import Hashes, Places, Words32

BINS, BANDS = 128, 32
BIN_BITS = 7
BORROWED_FROM = (85, 42, 113, 23, 94, 60, 103, 14, 77, 37, 120, 51)
"""An empty bin i borrows from the first bin i ^ b of these that is not empty."""
NEIGHBOURS = 32
"""In a band, a row is paired with so many of those after it that agree with it."""


def band_keys(rows: RowWords, *, size: int = SHINGLE_WORDS) -> Hashes:
    """Hash the 32 bands of every row: an array of bands by rows. Rows without words have keys of their own."""
    import numpy as np

    keys = np.empty((BANDS, len(rows)), np.uint64)
    first = 0
    for chunk in each_chunk(rows, size=size):
        after = first + chunk.num_rows
        keys[:, first:after] = _bands(_signatures(chunk, first))
        first = after
    empty = np.flatnonzero(rows.lengths == 0)
    keys[:, empty] = mix(empty.astype(np.uint64))
    return keys


def _signatures(chunk: Shingles, first: int) -> Words32:
    """Give the smallest value of each bin: an array of bins by rows, without empty bins."""
    import numpy as np

    none = np.uint32(0xFFFFFFFF)
    number = chunk.num_rows
    smallest = np.full(BINS * number, none, np.uint32)
    bins = (chunk.hashes >> np.uint64(64 - BIN_BITS)).astype(np.int64)
    values = (chunk.hashes >> np.uint64(64 - BIN_BITS - 31)).astype(np.uint32) & np.uint32(0x7FFFFFFF)
    np.minimum.at(smallest, bins * number + (chunk.rows - first), values)
    signatures = smallest.reshape(BINS, number)
    _fill_empty(signatures, none)
    return signatures


def _fill_empty(signatures: Words32, none: np.uint32) -> None:
    """Let empty bins borrow: from bins far away in an order of their own, then from the next one that is not empty.

    Were all to borrow from the next one, the bands of a short row would hold the same few values again and again.
    """
    import numpy as np

    own = signatures.copy()
    empty = own == none
    for mask in BORROWED_FROM:
        if not empty.any():
            return
        lender = own[np.arange(BINS) ^ mask]
        np.copyto(signatures, lender, where=empty)
        empty &= lender == none
    for bin_number in [*range(BINS - 2, -1, -1), *range(BINS - 1, -1, -1)]:
        borrower, next_bin = signatures[bin_number], signatures[(bin_number + 1) % BINS]
        np.copyto(borrower, next_bin + np.uint32(0x61C88647), where=(borrower == none) & (next_bin != none))


def _bands(signatures: Words32) -> Hashes:
    """Hash bins 32 apart into one band: neighbours may have borrowed from the same bin and would agree too often."""
    import numpy as np

    wide = signatures.reshape(BINS // BANDS, BANDS, -1)
    keys = np.zeros(wide.shape[1:], np.uint64)
    for step in range(BINS // BANDS):
        keys = (keys + wide[step]) * np.uint64(0x9FB21C651E98DF25)
        keys ^= keys >> np.uint64(32)
    return keys


def agreeing_pairs(keys: Hashes, *, across: int | None = None) -> RowPairs:
    """Pair the rows that agree in one of the bands, each pair once, the earlier row first.

    Where more rows agree than `NEIGHBOURS`, they are put in order by the next bands, so that a row is paired with those
    most like it, and with the first of all.

    Args:
        keys: Bands by rows, as `band_keys` makes them.
        across: Pair only rows before this one with rows from it on; None pairs all.
    """
    import numpy as np

    number = keys.shape[1]
    found: list[NDArray[np.int64]] = []
    for band in range(len(keys)):
        order = np.argsort(keys[band], kind="stable")
        ordered = keys[band][order]
        begins = np.concatenate(([True], ordered[1:] != ordered[:-1]))
        run = np.cumsum(begins) - 1
        sizes = np.bincount(run)
        if sizes.max(initial=0) > NEIGHBOURS:
            crowded = np.flatnonzero(sizes[run] > NEIGHBOURS)
            members = order[crowded]
            following = [keys[(band + step) % BANDS][members] for step in (2, 1)]
            order[crowded] = members[np.lexsort((*following, run[crowded]))]
            found.append(_encode(order[crowded], order[np.flatnonzero(begins)[run[crowded]]], number))
        for step in range(1, min(NEIGHBOURS, int(sizes.max(initial=1)) - 1) + 1):
            same = np.flatnonzero(run[step:] == run[:-step])
            found.append(_encode(order[same], order[same + step], number))
    pairs = np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)
    left, right = np.divmod(pairs, max(1, number))
    wanted = left < right if across is None else (left < across) & (right >= across)
    return RowPairs(left[wanted], right[wanted])


def _encode(one: Places, other: Places, number: int) -> Places:
    import numpy as np

    return np.minimum(one, other) * number + np.maximum(one, other)
