"""How well a mean difference is known when items come in clusters: error, interval, p value, smallest difference.

Chosen by the sizes of the clusters and by how many of them differ at all, never by who is ahead:

- many clusters of like size: Student's t of the cluster-corrected standard error, clusters less one degrees of freedom;
- fewer, unequal ones, or few that differ: a t corrected for skewness, ranked among those of flipped signs (`signs`);
- fewer than seven: Student's t of the corrected statistic, which must also be the largest of all signs. Clusters of
  unlike size then count the same, which keeps the level however the variances of their means differ.

An interval holds the differences that the test does not refuse.

Source: Bell and McCaffrey, Survey Methodology 28 (2002) for the standard error (CR2); Ibragimov and Muller,
Journal of Business and Economic Statistics 28 (2010) for the t of cluster means; error rates in benchmarks/verdicts.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from finetune_exe.evaluation import student_t
from finetune_exe.evaluation.signs import FEWEST_TO_FLIP, flip_signs

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray

    Numbers = NDArray[float64]
    Counts = NDArray[int64]

POWER = 0.8
"""Share of true differences of the minimum detectable size that the test would find."""
ALIKE = 1.1
"""Clusters are of like size where the mean square of their weights is at most so many squares of the mean."""
MANY_CLUSTERS = 200
"""Effective clusters from which on neither skewness nor unlike sizes harm the t test, if none is large."""
LARGE_SHARE = 0.05
"""Share of all weight that makes a cluster large."""
FEW_DIFFER = 40
"""Clusters that differ, below which the t test is replaced where most do not differ."""

_FARTHEST, _HALVINGS = 1e6, 14

Kind = Literal["t", "sign flips", "few clusters", "few cluster means"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """Which of `count` clusters each item belongs to, numbered from 0."""

    index: Counts
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How well an estimate is known, and what follows from it; None where nothing can be said."""

    standard_error: float | None
    low: float | None
    """Lower end of the confidence interval."""
    high: float | None
    p_value: float | None
    detectable: float | None
    kind: Kind = "t"


def number_clusters(names: Sequence[Hashable]) -> Clusters:
    """Number the clusters from 0 in order of appearance."""
    import numpy as np

    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
    return Clusters(index=index, count=len(numbers))


def measure_spread(
    differences: Numbers, weights: Numbers, clusters: Clusters, *, confidence_level: float, scale: float
) -> Spread:
    """Say how well the ratio of summed differences to summed weights is known.

    Args:
        differences: What each of n items adds to the numerator; deviations from an estimate count from zero.
        weights: What each adds to the denominator; ones for a mean.
        clusters: Cluster of each item; C in all.
        confidence_level: Of the interval; the test's level is 1 minus this.
        scale: Size of the numbers the differences came from, to tell spread from rounding.
    """
    import numpy as np

    nothing = Spread(standard_error=None, low=None, high=None, p_value=None, detectable=None)
    if clusters.count < 2:
        return nothing
    estimate = float(np.sum(differences)) / float(np.sum(weights))
    if float(np.abs(differences - estimate * weights).max()) <= 1e-12 * max(scale, abs(estimate)):
        return Spread(standard_error=0.0, low=None, high=None, p_value=None, detectable=None)
    sums_C: Numbers = np.bincount(clusters.index, weights=differences, minlength=clusters.count).astype(np.float64)
    weights_C: Numbers = np.bincount(clusters.index, weights=weights, minlength=clusters.count).astype(np.float64)
    held = weights_C > 0
    sums_C, weights_C = sums_C[held], weights_C[held]
    if len(sums_C) < 2:
        return nothing
    error = standard_error(sums_C, weights_C)
    if error == 0:
        return Spread(standard_error=0.0, low=None, high=None, p_value=None, detectable=None)
    alpha, kind = 1 - confidence_level, choose_kind(sums_C, weights_C)
    if kind == "t":
        return _by_t(estimate, error, len(sums_C) - 1, alpha=alpha)
    counted = held[clusters.index]
    signed = flip_signs(
        differences[counted], weights[counted], (np.cumsum(held) - 1)[clusters.index[counted]],
        alike=kind == "few cluster means",
    )  # fmt: skip
    centre = float(np.mean(sums_C / weights_C)) if kind == "few cluster means" else estimate
    return _by_test(signed.p_value, centre, error, len(sums_C) - 1, alpha=alpha, kind=kind)


def standard_error(sums_C: Numbers, weights_C: Numbers) -> float:
    """Estimate the error of sum / weight over clusters, each deviation scaled by what its own share takes from it.

    With equal weights this is the textbook error of the mean of cluster means.
    """
    import numpy as np

    total = float(np.sum(weights_C))
    deviations_C = sums_C - weights_C * (float(np.sum(sums_C)) / total)
    return math.sqrt(float(np.sum(deviations_C**2 / (1 - weights_C / total)))) / total


def choose_kind(sums_C: Numbers, weights_C: Numbers) -> Kind:
    """Choose the test by the sizes of the clusters and by how many differ at all."""
    import numpy as np

    count, total = len(weights_C), float(np.sum(weights_C))
    unlike = count * float(np.sum(weights_C**2)) / total**2
    if count < FEWEST_TO_FLIP:
        return "few clusters" if unlike <= ALIKE else "few cluster means"
    many = count / unlike >= MANY_CLUSTERS and float(weights_C.max()) / total <= LARGE_SHARE
    differing = int(np.count_nonzero(sums_C))
    sparse = differing < FEW_DIFFER and differing < 0.7 * count
    return "t" if many and not sparse else "sign flips"


def _by_t(centre: float, error: float, df: int, *, alpha: float) -> Spread:
    critical = student_t.quantile(1 - alpha / 2, df=df)
    return Spread(
        standard_error=error,
        low=centre - critical * error,
        high=centre + critical * error,
        p_value=student_t.two_sided_p(centre / error, df=df),
        detectable=(critical + student_t.quantile(POWER, df=df)) * error,
    )


def _by_test(
    p_value: Callable[[float], float], centre: float, error: float, df: int, *, alpha: float, kind: Kind
) -> Spread:
    low, high = (_farthest(p_value, centre, step, alpha=alpha) for step in (-error, error))
    known = low is not None and high is not None
    widening = 1 + student_t.quantile(POWER, df=df) / student_t.quantile(1 - alpha / 2, df=df)
    return Spread(
        standard_error=error,
        low=low if known else None,
        high=high if known else None,
        p_value=p_value(0.0),
        detectable=(high - low) / 2 * widening if low is not None and high is not None else None,
        kind=kind,
    )


def _farthest(p_value: Callable[[float], float], centre: float, step: float, *, alpha: float) -> float | None:
    """Find the farthest difference on one side of the centre that is not refused; None where there is no such end."""
    inside, outside = 0.0, 1.0
    while p_value(centre + outside * step) >= alpha:
        inside, outside = outside, 2 * outside
        if outside > _FARTHEST:
            return None
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if p_value(centre + middle * step) >= alpha:
            inside = middle
        else:
            outside = middle
    return centre + outside * step
