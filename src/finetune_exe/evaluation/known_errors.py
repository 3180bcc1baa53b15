"""How often comparisons on few clusters find a difference where there is none, as measured."""

from __future__ import annotations

from typing import NamedTuple


class ErrorRates(NamedTuple):
    """False verdicts of 100 at a level of 5 %, for a number of clusters."""

    fewest: int
    """Clusters from which on this holds."""
    least: int
    """Of right and wrong answers that seldom differ, which take few values."""
    most: int
    """Of the worst of normal, skewed, bounded and mostly tied gains."""
    lost: int
    """Where one cluster of five loses much and the others gain little."""


_MEASURED = (ErrorRates(4, 1, 8, 15),)
"""Source: benchmarks/verdicts.md, 27 November 2026: the mean over sizes and shared variance, rounded outwards."""
ENOUGH = 30
"""Clusters from which on nothing is said."""


def error_rates(clusters: int) -> ErrorRates | None:
    """Give the rates of so many clusters; None where there are enough, or too few for any verdict."""
    if clusters >= ENOUGH:
        return None
    return next((rates for rates in reversed(_MEASURED) if clusters >= rates.fewest), None)
