"""How often comparisons on few clusters find a difference where there is none, as measured."""

from __future__ import annotations

from typing import NamedTuple

from finetune_exe.domain.evaluation import Comparison
from finetune_exe.evaluation.corpus import CORPUS_METRICS


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


_MEASURED = (
    ErrorRates(4, 0, 7, 14),
    ErrorRates(5, 0, 5, 10),
    ErrorRates(6, 0, 7, 18),
    ErrorRates(7, 1, 9, 19),
    ErrorRates(15, 3, 7, 16),
    ErrorRates(20, 3, 7, 13),
)
"""Source: benchmarks/verdicts.py, 27 November 2026: means over designs, the worst of lost clusters, rounded up."""
ENOUGH = 30
"""Clusters from which on nothing is said."""


def error_rates(clusters: int) -> ErrorRates | None:
    """Give the rates of so many clusters; None where there are enough, or too few for any verdict."""
    if clusters >= ENOUGH:
        return None
    return next((rates for rates in reversed(_MEASURED) if clusters >= rates.fewest), None)


def chance_note(comparison: Comparison) -> str | None:
    """Say how often so few clusters find a difference where there is none; None where there is nothing to say."""
    known = error_rates(comparison.clusters)
    if known is None or comparison.p_value is None or comparison.metric in CORPUS_METRICS:
        return None
    return (
        f"with {comparison.clusters} clusters, {known.least} to {known.most} of 100 comparisons find a difference "
        f"where there is none, as simulated; up to {known.lost} where a few whole clusters lose much and the others "
        "gain little"
    )
