"""Find pairs of rows that share runs of words few others have: edited copies, and rows that stand inside others."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from finetune_exe.data.duplicates.shingles import each_chunk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetune_exe.data.duplicates.rows import RowWords
    from finetune_exe.data.duplicates.words import Places

RARE_SHINGLE_WORDS = 3
RARE = 6
"""Runs of words in more rows than this are common speech, or a text that MinHash finds."""
SAMPLE_ABOVE, SAMPLE_OF = 48, 4
"""Of rows with more runs than this, one in four is looked at; the hash decides which, the same in every row."""
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

    Args:
        rows: The rows.
        across: Pair only rows before this one with rows from it on; None pairs all.
    """
    import numpy as np

    hashes, of_row = _sample(rows)
    order = np.argsort(hashes, kind="stable")
    hashes, of_row = hashes[order], of_row[order]
    begins = np.concatenate(([True], hashes[1:] != hashes[:-1])) if len(hashes) else np.zeros(0, np.bool_)
    run = np.cumsum(begins) - 1
    sizes = np.bincount(run) if len(run) else np.zeros(0, np.int64)
    rare = np.flatnonzero(sizes[run] <= RARE)
    counts = np.bincount(of_row[rare], minlength=len(rows))
    found = []
    for step in range(1, RARE):
        same = rare[:-step][run[rare[step:]] == run[rare[:-step]]] if len(rare) > step else rare[:0]
        one, other = of_row[same], of_row[same + step]
        if across is not None:
            apart = (one < across) & (other >= across)
            one, other = one[apart], other[apart]
        found.append(one * len(rows) + other)
    pairs, shared = np.unique(np.concatenate(found), return_counts=True)
    kept = shared >= FEWEST_SHARED
    left, right = np.divmod(pairs[kept], max(1, len(rows)))
    longer, shorter = np.maximum(counts[left], counts[right]), np.minimum(counts[left], counts[right])
    return RarePairs(left, right, shared[kept] / longer, shared[kept] / shorter)


def _sample(rows: RowWords) -> tuple[NDArray[np.uint64], Places]:
    """Choose the runs of words to look at, each once a row."""
    import numpy as np

    hashes, of_row = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    long = rows.lengths > SAMPLE_ABOVE
    for chunk in each_chunk(rows, size=RARE_SHINGLE_WORDS):
        chosen = ~long[chunk.rows] | (chunk.hashes % np.uint64(SAMPLE_OF) == 0)
        order = np.lexsort((chunk.hashes[chosen], chunk.rows[chosen]))
        taken, owner = chunk.hashes[chosen][order], chunk.rows[chosen][order]
        fresh = np.ones(len(taken), np.bool_)
        fresh[1:] = (taken[1:] != taken[:-1]) | (owner[1:] != owner[:-1])
        hashes.append(taken[fresh])
        of_row.append(owner[fresh])
    return np.concatenate(hashes), np.concatenate(of_row)
