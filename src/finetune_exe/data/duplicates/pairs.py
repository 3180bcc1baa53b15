"""What is found: pairs of rows that say the same, and the clusters they make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetune_exe.data.duplicates.words import Places


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """A row and an earlier one that it repeats."""

    index: int
    of_index: int
    similarity: float
    """Shared over all distinct runs of five words; for a contained row, the share of its own that the other has."""


class RowPairs(NamedTuple):
    """Many pairs of rows, of one collection or of two."""

    left: Places
    right: Places

    def where(self, chosen: Places | NDArray[np.bool_] | slice) -> RowPairs:
        """Take some."""
        return RowPairs(self.left[chosen], self.right[chosen])

    def as_pairs(self, similarity: NDArray[np.float64]) -> list[Pair]:
        """List them one by one."""
        return list(map(Pair, self.left.tolist(), self.right.tolist(), similarity.tolist()))


def cluster(num_rows: int, pairs: Iterable[Pair]) -> Places:
    """Join rows that are pairs, directly or over others.

    Args:
        num_rows: Number of rows.
        pairs: Any pairs among them.

    Returns:
        For each row the first row of its cluster; a row in no pair stands for itself.
    """
    parent = list(range(num_rows))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for pair in pairs:
        one, other = root(pair.index), root(pair.of_index)
        parent[max(one, other)] = min(one, other)
    return np.fromiter(map(root, range(num_rows)), np.int64, num_rows)
