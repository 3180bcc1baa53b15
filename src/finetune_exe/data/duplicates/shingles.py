"""Shingles: all runs of n words of a row, as 64-bit hashes, and how alike two rows are by them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from finetune_exe.data.duplicates.rows import gather
from finetune_exe.data.duplicates.words import THREADS, mix, word_hashes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from finetune_exe.data.duplicates.rows import RowWords
    from finetune_exe.data.duplicates.words import Hashes, Places, Words32

SHINGLE_WORDS = 5
CHUNK_WORDS = 1 << 19
"""Shingles are made for so many words at a time, so that memory does not grow with the number of rows."""
PAIR_CHUNK = 1 << 20
_PAIR_BITS, _KEY_BITS = 23, 40
_SLOT_BITS = 10
SLOTS = 1 << _SLOT_BITS
_PAIRS_AT_ONCE = 1 << 13


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
        import numpy as np

        either = self.left + self.right - self.both
        return np.where(either > 0, self.both / np.maximum(either, 1), 1.0)

    def contained(self) -> NDArray[np.float64]:
        """Share of the shingles of the left row that the right one has too."""
        import numpy as np

        return self.both / np.maximum(self.left, 1)


def shingles(words: Words32, starts: Places, *, size: int = SHINGLE_WORDS) -> Shingles:
    """Hash every run of `size` words of every row; a shorter row is one shingle, an empty row none.

    Args:
        words: Words of all rows.
        starts: Where each row begins, and the end of the last.
        size: Words of a shingle.
    """
    import numpy as np

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
    import numpy as np

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
    import numpy as np

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


def each_chunk(rows: RowWords, *, size: int = SHINGLE_WORDS) -> Iterator[Shingles]:
    """Yield the shingles of all rows, some rows at a time."""
    return (shingles_of(rows, part, size=size) for part in row_ranges(rows))


def shared_shingles(
    left: RowWords, left_rows: Places, right: RowWords, right_rows: Places, *, size: int = SHINGLE_WORDS
) -> Shared:
    """Count the distinct shingles that the rows of each pair share, and those that either has."""
    import numpy as np

    lengths = left.lengths[left_rows] + right.lengths[right_rows]
    bounds = np.searchsorted(np.cumsum(lengths), np.arange(0, lengths.sum() + PAIR_CHUNK, PAIR_CHUNK), "right")
    cuts = np.unique(np.concatenate((bounds, np.arange(0, len(lengths), 1 << _PAIR_BITS), [0, len(lengths)])))
    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(
            pool.map(
                lambda cut: _shared(left, left_rows[cut[0] : cut[1]], right, right_rows[cut[0] : cut[1]], size),
                pairwise(cuts.tolist()),
            )
        )
    none = np.zeros(0, np.int64)
    return Shared(*(np.concatenate([part[side] for part in parts] or [none]) for side in range(3)))


def may_be_contained(
    inner: RowWords, inner_rows: Places, outer: RowWords, outer_rows: Places, share: float, *, size: int = SHINGLE_WORDS
) -> NDArray[np.bool_]:
    """Rule out pairs whose inner row has too many shingles that the outer one has not.

    Each shingle is one of `SLOTS` slots. A slot that is empty for the outer row is a shingle it lacks, so that nothing
    is ruled out of which it has the share; what is left is to be counted. It takes a third of the time of counting.

    Args:
        inner: Where the inner rows are.
        inner_rows: Their numbers.
        outer: Where the outer rows are.
        outer_rows: Their numbers, one for each inner row.
        share: Least share of the distinct shingles of the inner row that the outer one must have.
        size: Words of a shingle.
    """
    import numpy as np

    lengths = inner.lengths[inner_rows] + outer.lengths[outer_rows]
    bounds = np.searchsorted(np.cumsum(lengths), np.arange(0, lengths.sum() + PAIR_CHUNK, PAIR_CHUNK), "right")
    cuts = np.unique(np.concatenate((bounds, np.arange(0, len(lengths), _PAIRS_AT_ONCE), [0, len(lengths)])))

    def look(cut: tuple[int, int]) -> NDArray[np.bool_]:
        number = cut[1] - cut[0]
        held = np.zeros(number * SLOTS, np.bool_)
        held[_slots(outer, outer_rows[cut[0] : cut[1]], size)] = True
        wanted = _slots(inner, inner_rows[cut[0] : cut[1]], size)
        lacking = np.zeros(number * SLOTS, np.bool_)
        lacking[wanted[~held[wanted]]] = True
        num_lacking = np.count_nonzero(lacking.reshape(number, SLOTS), axis=1)
        num_wanted = np.bincount(wanted >> _SLOT_BITS, minlength=number)
        possible: NDArray[np.bool_] = num_lacking <= (1 - share) * num_wanted + 1e-6
        return possible

    with ThreadPoolExecutor(THREADS) as pool:
        return np.concatenate([np.zeros(0, np.bool_), *pool.map(look, pairwise(cuts.tolist()))])


def _slots(rows: RowWords, chosen: Places, size: int) -> Places:
    """Number the slot of every shingle of some rows, those of row i from i times `SLOTS` on."""
    import numpy as np

    taken = gather(rows.words, rows.starts[chosen], rows.lengths[chosen])
    made = shingles(taken.words, taken.starts, size=size)
    return made.rows << _SLOT_BITS | (made.hashes & np.uint64(SLOTS - 1)).astype(np.int64)


def _shared(left: RowWords, left_rows: Places, right: RowWords, right_rows: Places, size: int) -> Shared:
    """Sort the shingles of all pairs at once: those of both rows come to stand beside each other."""
    import numpy as np

    keys = []
    for side, (rows, chosen) in enumerate(((left, left_rows), (right, right_rows))):
        taken = gather(rows.words, rows.starts[chosen], rows.lengths[chosen])
        made = shingles(taken.words, taken.starts, size=size)
        pair = made.rows.astype(np.uint64) << np.uint64(_KEY_BITS + 1)
        keys.append(pair | (made.hashes >> np.uint64(64 - _KEY_BITS) << np.uint64(1)) | np.uint64(side))
    joined = np.concatenate(keys)
    joined.sort()
    fresh = np.ones(len(joined), np.bool_)
    np.not_equal(joined[1:], joined[:-1], out=fresh[1:])
    joined = joined[fresh]
    pairs = (joined >> np.uint64(_KEY_BITS + 1)).astype(np.int64)
    on_right = (joined & np.uint64(1)).astype(np.bool_)
    twice = joined[1:] >> np.uint64(1) == joined[:-1] >> np.uint64(1)
    number = len(left_rows)
    return Shared(
        both=np.bincount(pairs[1:][twice], minlength=number),
        left=np.bincount(pairs[~on_right], minlength=number),
        right=np.bincount(pairs[on_right], minlength=number),
    )
