"""Find pairs of rows that share runs of words few others have: edited copies, and rows that stand inside others."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from finetune_exe.data.duplicates.shingles import each_chunk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetune_exe.data.duplicates.rows import RowWords
    from finetune_exe.data.duplicates.words import Hashes, Places

RARE_SHINGLE_WORDS = 3
RARE = 6
"""Runs of words in more rows than this are common speech, or a text that MinHash finds."""
SAMPLE_OF = 3
SHORT = 48
"""Rows of so many words or fewer are looked at whole, among each other."""
FEWEST_SHARED = 2


class RarePairs(NamedTuple):
    """Pairs of rows that share rare runs of words."""

    left: Places
    right: Places
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
    import numpy as np

    short = rows.lengths <= SHORT
    among_short = _sharing(*_sample(rows, short), len(rows), across)
    every = _sharing(*_sample(rows, None), len(rows), across)
    left, right, longer, shorter = (np.concatenate(both) for both in zip(among_short, every, strict=True))
    _, once = np.unique(left * len(rows) + right, return_index=True)
    return RarePairs(left[once], right[once], longer[once], shorter[once])


def _sharing(hashes: Hashes, of_row: Places, num_rows: int, across: int | None) -> RarePairs:
    """Pair the rows of equal hashes, where there are few of them."""
    import numpy as np

    order = np.argsort(hashes, kind="stable")
    hashes, of_row = hashes[order], of_row[order]
    fresh = np.ones(len(hashes), np.bool_)
    fresh[1:] = (hashes[1:] != hashes[:-1]) | (of_row[1:] != of_row[:-1])
    hashes, of_row = hashes[fresh], of_row[fresh]
    run = np.cumsum(np.concatenate(([0], (hashes[1:] != hashes[:-1]).astype(np.int64)))) if len(hashes) else of_row
    rare = np.flatnonzero(np.bincount(run)[run] <= RARE) if len(run) else run
    counts = np.bincount(of_row[rare], minlength=num_rows)
    found = [np.zeros(0, np.int64)]
    for step in range(1, RARE):
        same = rare[:-step][run[rare[step:]] == run[rare[:-step]]] if len(rare) > step else rare[:0]
        one, other = of_row[same], of_row[same + step]
        if across is not None:
            apart = (one < across) & (other >= across)
            one, other = one[apart], other[apart]
        found.append(one * num_rows + other)
    pairs, shared = np.unique(np.concatenate(found), return_counts=True)
    kept = shared >= FEWEST_SHARED
    left, right = np.divmod(pairs[kept], max(1, num_rows))
    longer, shorter = np.maximum(counts[left], counts[right]), np.minimum(counts[left], counts[right])
    return RarePairs(left, right, shared[kept] / longer, shared[kept] / shorter)


def _sample(rows: RowWords, only: NDArray[np.bool_] | None) -> tuple[Hashes, Places]:
    """Choose the runs of words to look at, in the order of the rows: all of certain rows, or some of every row."""
    import numpy as np

    hashes, of_row = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for chunk in each_chunk(rows, size=RARE_SHINGLE_WORDS):
        chosen = chunk.hashes % np.uint64(SAMPLE_OF) == 0 if only is None else only[chunk.rows]
        hashes.append(chunk.hashes[chosen])
        of_row.append(chunk.rows[chosen])
    return np.concatenate(hashes), np.concatenate(of_row)
