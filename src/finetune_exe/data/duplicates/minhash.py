"""Find pairs of rows that may share most of their shingles, without comparing all rows with all.

One-permutation MinHash: each shingle falls into one of 128 bins, a bin keeps its smallest value, an empty bin borrows
from the next one that is not. Rows that agree in all 4 bins of one of 32 bands are a pair worth verifying.

Source: Shrivastava, Densifying one permutation hashing via rotation, ICML 2014; the bands: Leskovec, Rajaraman and
Ullman, Mining of Massive Datasets, 3.4.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetune_exe.data.duplicates.pairs import RowPairs
from finetune_exe.data.duplicates.rows import RowWords
from finetune_exe.data.duplicates.shingles import RowRange, Shingles, row_ranges, shingles_of
from finetune_exe.data.duplicates.words import THREADS, Hashes, Places, Words32, begins, mix

BINS, BANDS = 128, 32
"""Of 6,829 planted pairs, 32 bands of four bins find 0.936 of those alike by 0.5 to 0.6, and all from 0.7 on; 16 of
eight find 0.78 of those alike by 0.7 to 0.8."""
BIN_BITS, VALUE_BITS = 7, 27
"""Bits of a hash that number the bin, and that are kept: the other five of 32 say which bin was borrowed from."""
BORROWED_FROM = (85, 42, 113, 23, 94, 60, 103, 14, 77, 37, 120, 51)
"""An empty bin i borrows from the first bin i ^ b of these that is not empty, which goes into its top bits."""
SKETCHED_WORDS = 12
"""Rows of fewer words have too few shingles for their similarity to be estimated."""
DOUBT = 0.22
"""Rows that seem less alike than wanted by more than this are not verified: of 50,000 pairs of every length at or above
0.7, none was estimated more than 0.2 too low; the standard deviation is 0.03 to 0.05."""
FILLED_TOGETHER = 512
"""Rows whose empty bins are filled at a time: so many fit the processor's cache."""
NEIGHBOURS = 32
"""In a band, a row is paired with so many of those that agree with it, if there are as many, whatever it costs."""
FEWEST_PAIRS, PAIRS_A_ROW = 50_000, 4
"""A band may give so many pairs in all, or so many for each row if that is more."""


class Signatures(NamedTuple):
    """What is kept of the shingles of many rows."""

    bands: Hashes
    """An array of bands by rows."""
    sketches: NDArray[np.uint8]
    """One byte of each bin, an array of rows by bins: two rows agree in about as many as they share shingles."""

    def resemblance(self, pairs: RowPairs) -> NDArray[np.float64]:
        """Estimate the similarity of pairs, to within `DOUBT` for rows of `SKETCHED_WORDS` or more."""
        share = [np.zeros(0)]
        for start in range(0, len(pairs.left), 1 << 16):
            left, right = (self.sketches[side[start : start + (1 << 16)]] for side in pairs)
            share.append((left == right).mean(axis=1))
        return np.concatenate(share)


def sign(rows: RowWords) -> Signatures:
    """Make the signatures of rows. Rows without words have bands of their own."""
    bands = np.empty((BANDS, len(rows)), np.uint64)
    sketches = np.empty((len(rows), BINS), np.uint8)

    def fill(part: RowRange) -> None:
        signatures = _signatures(shingles_of(rows, part), part.first)
        bands[:, part.first : part.after] = _bands(signatures)
        sketches[part.first : part.after] = signatures.astype(np.uint8).T

    with ThreadPoolExecutor(THREADS) as pool:
        deque(pool.map(fill, row_ranges(rows)), maxlen=0)
    empty = np.flatnonzero(rows.lengths == 0)
    bands[:, empty] = mix(empty.astype(np.uint64))
    return Signatures(bands, sketches)


def _signatures(chunk: Shingles, first: int) -> Words32:
    """Give the smallest value of each bin: an array of bins by rows, without empty bins."""
    none = np.uint32(0xFFFFFFFF)
    number = chunk.num_rows
    smallest = np.full(BINS * number, none, np.uint32)
    bins = (chunk.hashes >> np.uint64(64 - BIN_BITS)).astype(np.int64)
    values = (chunk.hashes >> np.uint64(64 - BIN_BITS - VALUE_BITS)).astype(np.uint32) & np.uint32(
        (1 << VALUE_BITS) - 1
    )
    np.minimum.at(smallest, bins * number + (chunk.rows - first), values)
    signatures = smallest.reshape(BINS, number)
    for start in range(0, number, FILLED_TOGETHER):
        signatures[:, start : start + FILLED_TOGETHER] = _filled(signatures[:, start : start + FILLED_TOGETHER], none)
    return signatures


def _filled(signatures: Words32, none: np.uint32) -> Words32:
    """Let empty bins borrow: from bins far away in an order of their own, then from the next one that is not empty.

    Were all to borrow from the next one, the bands of a short row would hold the same few values again and again.
    """
    own = np.ascontiguousarray(signatures)
    filled = own.copy()
    for turn, mask in enumerate(BORROWED_FROM, start=1):
        lent = own[np.arange(BINS) ^ mask]
        lent |= np.uint32(turn << VALUE_BITS)
        np.minimum(filled, lent, out=filled)
    if not (filled == none).any():
        return filled
    for bin_number in [*range(BINS - 2, -1, -1), *range(BINS - 1, -1, -1)]:
        borrower, next_bin = filled[bin_number], filled[(bin_number + 1) % BINS]
        np.copyto(borrower, next_bin + np.uint32(0x61C88647), where=(borrower == none) & (next_bin != none))
    return filled


def _bands(signatures: Words32) -> Hashes:
    """Hash bins 32 apart into one band: neighbours may have borrowed from the same bin and would agree too often."""
    wide = signatures.reshape(BINS // BANDS, BANDS, -1)
    keys = np.zeros(wide.shape[1:], np.uint64)
    for step in range(BINS // BANDS):
        keys = (keys + wide[step]) * np.uint64(0x9FB21C651E98DF25)
        keys ^= keys >> np.uint64(32)
    return keys


def agreeing_pairs(keys: Hashes, *, across: int | None = None) -> RowPairs:
    """Pair the rows that agree in one of the bands, each pair once, the earlier row first.

    Where too many rows agree to pair all with all, they are put in order by the next bands, and each is paired with
    those that come soon after it, which are most like it, and with the one that agrees with most rows in all bands:
    the text that the others are copies of, if there is one.

    Args:
        keys: Bands by rows, as `sign` makes them.
        across: Pair only rows before this one with rows from it on; None pairs all.
    """
    number = keys.shape[1]
    found = np.zeros(0, np.int64)
    agreeing = np.zeros(number, np.int64)
    crowds: list[_Crowd] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for band in pool.map(partial(_pairs_of_band, keys), range(len(keys))):
            found = _distinct(np.concatenate((found, band.pairs)))
            agreeing += band.agreeing
            crowds += [band.crowd] if len(band.crowd.members) else []
    found = _distinct(np.concatenate([found, *(_with_centre(crowd, agreeing) for crowd in crowds)]))
    left, right = np.divmod(found, max(1, number))
    wanted = left < right if across is None else (left < across) & (right >= across)
    return RowPairs(left, right).where(wanted)


class _Crowd(NamedTuple):
    """Rows of runs too long to pair all with all."""

    members: Places
    runs: Places


class _BandPairs(NamedTuple):
    pairs: Places
    agreeing: Words32
    """With how many rows each agrees, itself included."""
    crowd: _Crowd


def _pairs_of_band(keys: Hashes, band: int) -> _BandPairs:
    number = keys.shape[1]
    row_bits = np.uint64(max(1, number.bit_length()))
    packed = keys[band] >> row_bits << row_bits | np.arange(number, dtype=np.uint64)
    packed.sort()  # several times as fast as argsort; the few bits that the rows take up are not missed
    ordered = packed >> row_bits
    order = (packed & ((np.uint64(1) << row_bits) - np.uint64(1))).astype(np.int64)
    run = np.cumsum(begins(ordered)) - 1
    sizes = np.bincount(run)
    agreeing = np.empty(number, np.uint32)
    agreeing[order] = sizes[run]
    reach = _reach(sizes, max(FEWEST_PAIRS, PAIRS_A_ROW * number))
    crowded = np.flatnonzero(sizes[run] > reach + 1)
    members = order[crowded]
    following = [keys[(band + step) % BANDS][members] for step in (2, 1)]
    order[crowded] = members[np.lexsort((*following, run[crowded]))]
    near = [np.flatnonzero(run[step:] == run[:-step]) for step in range(1, reach + 1)]
    pairs = [_encode(order[same], order[same + step], number) for step, same in enumerate(near, start=1)]
    return _BandPairs(_distinct(np.concatenate(pairs)), agreeing, _Crowd(order[crowded], run[crowded]))


def likely_pairs(rows: RowWords, threshold: float, *, across: int | None = None) -> RowPairs:
    """Pair rows that may share so many of their shingles as the threshold says.

    Args:
        rows: Any rows.
        threshold: Least similarity wanted.
        across: Pair only rows before this one with rows from it on; None pairs all.
    """
    signatures = sign(rows)
    pairs = agreeing_pairs(signatures.bands, across=across)
    short = np.minimum(rows.lengths[pairs.left], rows.lengths[pairs.right]) < SKETCHED_WORDS
    likely = short | (signatures.resemblance(pairs) >= threshold - DOUBT)
    return pairs.where(likely)


def _with_centre(crowd: _Crowd, agreeing: Places) -> Places:
    """Pair the members of each run with the one of them that agrees with most rows."""
    order = np.lexsort((crowd.members, -agreeing[crowd.members], crowd.runs))
    run, members = crowd.runs[order], crowd.members[order]
    first = begins(run)
    return _encode(members, members[first][np.cumsum(first) - 1], len(agreeing))


def _reach(sizes: Places, most_pairs: int) -> int:
    """Say with how many of those after it a row can be paired, so that a band gives no more pairs than it may."""
    reach = max(1, int(sizes.max(initial=1)) - 1)
    while reach > NEIGHBOURS:
        within = np.minimum(reach, sizes - 1)
        if (within * sizes - within * (within + 1) // 2).sum() <= most_pairs:
            break
        reach = max(NEIGHBOURS, reach // 2)
    return reach


def _distinct(values: Places) -> Places:
    """Sort values and keep one of each."""
    ordered = np.sort(values)
    return ordered[begins(ordered)]


def _encode(one: Places, other: Places, number: int) -> Places:
    return np.minimum(one, other) * number + np.maximum(one, other)
