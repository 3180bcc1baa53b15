"""How well a mean difference is known when items come in clusters: error, interval, p value, smallest difference.

Each cluster counts by what it holds, but none for more than a third of the sum of squares of what clusters count: one
that holds most of the items would else decide alone, and of one cluster no spread can be seen. The test is chosen by
what clusters count and by how many of them differ at all, never by who is ahead:

- many clusters: Student's t of the cluster-corrected standard error, clusters less one degrees of freedom;
- fewer, or few that differ: a t corrected for skewness, ranked among those of flipped signs (`signs`);
- fewer than seven: Student's t of the corrected statistic, which must also be the largest of all signs;
- besides, where most items tie, Student's t must agree: the few items that differ tell little of their skewness, which
  may make a difference seem surer than it is.

An interval holds the differences that the test does not refuse. The smallest difference found is as far from zero as
the estimate is from the end of its interval that faces zero, and further by what chance takes in one of five samples.

Source: Bell and McCaffrey, Survey Methodology 28 (2002) for the standard error (CR2); error rates in
benchmarks/verdicts.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
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
LARGEST_PART = 1 / 3
"""Of the sum of squares of what clusters count: what one may bring at most."""
MANY_CLUSTERS = 200
"""Effective clusters from which on neither skewness nor unlike sizes harm the t test."""
FEW_DIFFER = 40
"""Clusters that differ, below which the t test is replaced where most do not differ."""

FEW_TIES = 0.5
"""Share of items that differ, from which on their skewness is believed without more."""

_FARTHEST, _HALVINGS = 1e6, 14

Kind = Literal["t", "sign flips", "few clusters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """Which of `count` clusters each item belongs to, numbered from 0."""

    index: Counts
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """Clusters that count for less than they hold, because they would decide alone."""

    clusters: tuple[int, ...]
    held: float
    """Share of all weight that is theirs."""
    counted: float
    """Share they count for."""
    estimate: float
    """The mean, so counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How well an estimate is known, and what follows from it; None where nothing can be said."""

    standard_error: float | None
    low: float | None
    """Lower end of the confidence interval."""
    high: float | None
    p_value: float | None
    detectable: float | None
    """Smallest true difference of the estimate's sign that is found with a chance of `POWER`."""
    kind: Kind = "t"
    weighed: Weighed | None = None
    """None where each cluster counts for what it holds."""


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
    weighty = np.bincount(clusters.index, weights=weights, minlength=clusters.count)[clusters.index] > 0
    names, cluster_of = np.unique(clusters.index[weighty], return_inverse=True)
    if len(names) < 2:
        return nothing
    differences, weights = differences[weighty], weights[weighty]
    parts_C = counted_parts(np.bincount(cluster_of, weights=weights).astype(np.float64))
    sums_C, counts_C = (parts_C * np.bincount(cluster_of, weights=values) for values in (differences, weights))
    error, centre = standard_error(sums_C, counts_C), float(np.sum(sums_C) / np.sum(counts_C))
    if error == 0:
        return Spread(standard_error=0.0, low=None, high=None, p_value=None, detectable=None)
    alpha, df, kind = 1 - confidence_level, len(names) - 1, choose_kind(sums_C, counts_C)
    if kind == "t":
        found = _by_t(centre, error, df, alpha=alpha)
    else:
        p_value = p_value_of_few(differences, weights, cluster_of, parts_C)
        found = _by_test(p_value, centre, error, df, alpha=alpha)
    return replace(found, kind=kind, weighed=weighed_clusters(names, counts_C, parts_C, centre))


def p_value_of_few(
    differences: Numbers, weights: Numbers, cluster_of: Counts, parts_C: Numbers
) -> Callable[[float], float]:
    """Give the p value of any difference that is assumed; where most items tie, the larger one of both tests.

    Args:
        differences: What each item adds to the numerator of the estimate.
        weights: What each adds to the denominator.
        cluster_of: Cluster of each item, numbered from 0 without gaps; each of some weight.
        parts_C: Which part of each cluster counts.
    """
    import numpy as np

    signed = flip_signs(differences, weights, cluster_of, parts_C)
    if np.count_nonzero(differences) >= FEW_TIES * len(differences):
        return signed.p_value
    sums_C, counts_C = (parts_C * np.bincount(cluster_of, weights=values) for values in (differences, weights))
    error, centre = standard_error(sums_C, counts_C), float(np.sum(sums_C) / np.sum(counts_C))
    df = len(parts_C) - 1
    return lambda assumed: max(
        signed.p_value(assumed), student_t.two_sided_p((centre - assumed) / error, df=df) if error else 1.0
    )


def counted_parts(weights_C: Numbers) -> Numbers:
    """Say which part of each cluster counts: all of it, or so much that none brings more than `LARGEST_PART`.

    At most two of four or more clusters are so large; two or three clusters all count the same.
    """
    import numpy as np

    falling_C = np.sort(weights_C)[::-1]
    for large in range(min(3, len(weights_C))):
        most = math.sqrt(float(np.sum(falling_C[large:] ** 2)) * LARGEST_PART / (1 - large * LARGEST_PART))
        if falling_C[large] <= most * (1 + 1e-9):
            break
    parts_C = np.minimum(1.0, most / weights_C) if large else np.ones(len(weights_C))
    return np.asarray(parts_C / parts_C.max())


def weighed_clusters(names: Counts, counts_C: Numbers, parts_C: Numbers, estimate: float) -> Weighed | None:
    """Find the clusters that do not count for all they hold.

    Args:
        names: Number of each cluster.
        counts_C: What each counts.
        parts_C: Which part of what it holds that is.
        estimate: The mean, so counted.
    """
    large_C = parts_C < 1
    if not large_C.any():
        return None
    held_C = counts_C / parts_C
    return Weighed(
        clusters=tuple(names[large_C].tolist()),
        held=float(held_C[large_C].sum() / held_C.sum()),
        counted=float(counts_C[large_C].sum() / counts_C.sum()),
        estimate=estimate,
    )


def standard_error(sums_C: Numbers, weights_C: Numbers) -> float:
    """Estimate the error of sum / weight over clusters, each deviation scaled by what its own share takes from it.

    With equal weights this is the textbook error of the mean of cluster means.
    """
    import numpy as np

    total = float(np.sum(weights_C))
    deviations_C = sums_C - weights_C * (float(np.sum(sums_C)) / total)
    return math.sqrt(float(np.sum(deviations_C**2 / (1 - weights_C / total)))) / total


def choose_kind(sums_C: Numbers, counts_C: Numbers) -> Kind:
    """Choose the test by what the clusters count and by how many differ at all."""
    import numpy as np

    count = len(counts_C)
    if count < FEWEST_TO_FLIP:
        return "few clusters"
    differing = int(np.count_nonzero(sums_C))
    sparse = differing < FEW_DIFFER and differing < 0.7 * count
    return "t" if effective_count(counts_C) >= MANY_CLUSTERS and not sparse else "sign flips"


def effective_count(counts_C: Numbers) -> float:
    """Give how many clusters of one size are worth as much as clusters that count so.

    Source: Kish, Survey Sampling (1965), 11.7.
    """
    import numpy as np

    return float(np.sum(counts_C)) ** 2 / float(np.sum(counts_C**2)) * (1 + 1e-12)


def _by_t(centre: float, error: float, df: int, *, alpha: float) -> Spread:
    critical = student_t.quantile(1 - alpha / 2, df=df)
    return Spread(
        standard_error=error,
        low=centre - critical * error,
        high=centre + critical * error,
        p_value=student_t.two_sided_p(centre / error, df=df),
        detectable=(critical + student_t.quantile(POWER, df=df)) * error,
    )


def _by_test(p_value: Callable[[float], float], centre: float, error: float, df: int, *, alpha: float) -> Spread:
    at_zero = p_value(0.0)
    low, high = (
        _farthest(p_value, centre, step, alpha=alpha, at_zero=at_zero if centre * step < 0 else None)
        for step in (-error, error)
    )
    found = Spread(standard_error=error, low=None, high=None, p_value=at_zero, detectable=None)
    if low is None or high is None:
        return found
    refused = centre - low if centre > 0 else high - centre
    return replace(found, low=low, high=high, detectable=refused + student_t.quantile(POWER, df=df) * error)


def _farthest(
    p_value: Callable[[float], float], centre: float, step: float, *, alpha: float, at_zero: float | None
) -> float | None:
    """Find the farthest difference on one side of the centre that is not refused; None where there is no such end.

    Whether zero is refused is asked of zero itself, so that interval and p value never part: where sums take few
    values, the p value jumps at zero, at which many patterns of signs bring exactly what was seen.

    Args:
        p_value: Of any difference that is assumed.
        centre: The estimate.
        step: Where to begin, from the centre.
        alpha: Level of the test.
        at_zero: The p value of zero, where zero lies on this side.
    """
    refuses_zero = at_zero is not None and at_zero < alpha
    inside = centre if at_zero is None or refuses_zero else 0.0
    farthest = abs(centre) if refuses_zero else _FARTHEST * abs(step)
    outside = inside + step
    while abs(outside - centre) < farthest and p_value(outside) >= alpha:
        inside, outside = outside, 2 * outside - centre
    if abs(outside - centre) >= farthest:
        if not refuses_zero:
            return None
        outside = 0.0
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if p_value(middle) >= alpha:
            inside = middle
        else:
            outside = middle
    return inside
