"""Count lengths in bins that a person reads off at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from finetune_exe.domain.dataset import Histogram

STEPS = (10, 15, 20, 30, 50, 70)
"""Borders within a power of ten; each is about half as large again as the one before, for lengths have long tails."""


def count_lengths(lengths: NDArray[np.int64]) -> Histogram | None:
    """Count lengths between round borders that grow with them.

    Args:
        lengths: At least 0 each.

    Returns:
        The bins from the one of the shortest to the one of the longest; None where there are no lengths.
    """
    if not len(lengths):
        return None
    low, high = int(lengths.min()), int(lengths.max())
    edges = [0]
    while edges[-1] <= high:
        power, step = divmod(len(edges) - 1, len(STEPS))
        edges.append(STEPS[step] * 10**power)
    first = max(place for place, edge in enumerate(edges) if edge <= low)
    counts, _ = np.histogram(lengths, bins=np.array(edges[first:], dtype=np.int64))
    return Histogram(edges=tuple(edges[first:]), counts=tuple(counts.tolist()))
