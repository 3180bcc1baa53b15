"""What to know of a comparison's clusters before it is believed: how few they are, and which weigh most."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from finetune_exe.domain.comparison import PartComparison
from finetune_exe.domain.evaluation import Comparison, SuiteResult
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
    ErrorRates(4, 0, 7, 12),
    ErrorRates(5, 0, 5, 10),
    ErrorRates(6, 0, 5, 18),
    ErrorRates(7, 1, 7, 18),
    ErrorRates(15, 3, 6, 14),
    ErrorRates(20, 3, 6, 10),
)
"""Source: benchmarks/verdicts.py, 27 November 2026: means over designs, the worst of lost clusters, rounded up."""
NEARLY_ALL = 0.9
"""A cluster that counts for more of what it holds is not worth a word."""
ENOUGH = 30
"""Clusters from which on nothing is said."""


def error_rates(clusters: int) -> ErrorRates | None:
    """Give the rates of so many clusters; None where there are enough, or too few for any verdict."""
    if clusters >= ENOUGH:
        return None
    return next((rates for rates in reversed(_MEASURED) if clusters >= rates.fewest), None)


def cautions(comparison: Comparison) -> list[str]:
    """Say what there is to say."""
    return [note for note in (weight_note(comparison), chance_note(comparison)) if note is not None]


def cautions_of_parts(parts: Iterable[PartComparison | SuiteResult]) -> list[str]:
    """Say of each suite or slice which of its clusters weigh most."""
    noted = ((part.name, weight_note(part.comparison)) for part in parts)
    return [f"{name}: {note}" for name, note in noted if note is not None]


def weight_note(comparison: Comparison) -> str | None:
    """Say which clusters hold so much that they count for much less; None where none does."""
    large = comparison.weighed_down
    if large is None or large.counted > NEARLY_ALL * large.held:
        return None
    names = " and ".join(map(repr, large.clusters))
    one = len(large.clusters) == 1
    return (
        f"cluster{'' if one else 's'} {names} hold{'s' if one else ''} {large.held:.0%} of all that was measured and "
        f"would decide alone: test and interval count {'it' if one else 'them'} for {large.counted:.0%}, which makes "
        f"the difference {large.difference:+.4g}"
    )


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
