"""What to know of a comparison before it is believed: how few its clusters are, which weigh most, what its p says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from finetune_exe.domain.comparison import PartComparison
from finetune_exe.domain.evaluation import FEWEST_FOR_VERDICT, Comparison, SuiteResult
from finetune_exe.evaluation.corpus import DRAWN_AGAIN

SIMULATED_LEVEL = 0.95
"""Confidence level at which error rates are known."""


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
    told = (weight_note, chance_note, power_note, level_note, draws_note)
    return [note for tell in told if (note := tell(comparison)) is not None]


def cautions_of_parts(parts: Iterable[PartComparison | SuiteResult]) -> list[str]:
    """Say of each suite or slice which of its clusters weigh most, and whether a small difference was found."""
    notes: list[str] = []
    for part in parts:
        decided = part.verdict in ("improved", "regressed")
        found = weight_note(part.comparison), power_note(part.comparison) if decided else None
        notes += [f"{part.name}: {note}" for note in found if note is not None]
    return notes


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
    if known is None or comparison.p_value is None or comparison.test.startswith(DRAWN_AGAIN):
        return None
    if comparison.confidence_level != SIMULATED_LEVEL:
        return None
    return (
        f"with {comparison.clusters} clusters, {known.least} to {known.most} of 100 comparisons find a difference "
        f"where there is none, as simulated; up to {known.lost} where a few whole clusters lose much and the others "
        "gain little"
    )


def power_note(comparison: Comparison) -> str | None:
    """Explain a difference beyond chance that is smaller than the smallest one said to be found."""
    detectable, size = comparison.minimum_detectable_difference, abs(comparison.difference)
    if detectable is None or size >= detectable or not _is_beyond_chance(comparison):
        return None
    return (
        f"the difference in {comparison.metric} is beyond chance though smaller than the smallest that is found four "
        f"times in five, {detectable:.4g}: a true one of {size:.4g} would be found less often, and where it is found "
        "it mostly looks larger than it is"
    )


def level_note(comparison: Comparison) -> str | None:
    """Explain an interval that holds zero though that of the relative difference, which is tested, does not."""
    zero_inside = not _excludes_zero(comparison.ci_low, comparison.ci_high)
    if comparison.relative is None or not zero_inside or not _is_beyond_chance(comparison):
        return None
    return (
        f"the interval of the difference in {comparison.metric} holds zero because the base predicts different texts "
        "unequally well; tested was the relative difference, whose interval lies on one side of zero"
    )


def draws_note(comparison: Comparison) -> str | None:
    """Explain an interval and a p value that part, as two ways of drawing may; any other test gives both."""
    p_value, low, high = comparison.p_value, comparison.ci_low, comparison.ci_high
    if not comparison.test.startswith(DRAWN_AGAIN) or p_value is None or low is None:
        return None
    if (p_value < 1 - comparison.confidence_level) == _excludes_zero(low, high):
        return None
    return (
        "interval and p value part: clusters are drawn again for the one, and exchanged between the models for the "
        "other; a difference is called one only where both say so"
    )


def _is_beyond_chance(comparison: Comparison) -> bool:
    """Ask the interval that was tested: the relative one where there is one."""
    own = comparison.ci_low, comparison.ci_high
    tested = own if comparison.relative is None else (comparison.relative_ci_low, comparison.relative_ci_high)
    return comparison.clusters >= FEWEST_FOR_VERDICT and _excludes_zero(*tested)


def _excludes_zero(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and (low > 0 or high < 0)
