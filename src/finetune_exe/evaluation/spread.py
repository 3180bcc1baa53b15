"""How well a mean difference is known when items come in clusters: error, interval, p value, smallest difference.

Three ways, chosen by the sizes of the clusters and by how many of them differ at all, never by who is ahead:

- many clusters of like size: Student's t of the cluster-corrected standard error, clusters less one degrees of freedom;
- unequal clusters, or few that differ: signs of whole clusters are flipped. Without a difference each sign is as likely
  as the other, whatever the sizes and however much the items of a cluster share, so that the test keeps its level;
- fewer than seven unequal clusters, which have too few signs to flip: Student's t of the means of the clusters, each
  counting once. Its level does not exceed 5 % however the variances of the means differ.

Source: Bell and McCaffrey, Survey Methodology 28 (2002) for the standard error (CR2); Canay, Santos and Shaikh,
Review of Economics and Statistics 103 (2021) for flipped signs of few clusters; Ibragimov and Muller,
Journal of Business and Economic Statistics 28 (2010) for the t of cluster means; error rates
by simulation in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from finetune_exe.evaluation import student_t

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray

    Numbers = NDArray[float64]
    Counts = NDArray[int64]

POWER = 0.8
"""Share of true differences of the minimum detectable size that the test would find."""
ALIKE = 1.1
"""Clusters are of like size where the mean square of their weights is at most so many squares of the mean."""
MANY_CLUSTERS = 35
"""Effective clusters from which on unlike sizes do no harm to the t test, if none is large."""
LARGE_SHARE = 0.05
"""Share of all weight that makes a cluster large."""
FEWEST_TO_FLIP = 7
"""Clusters with fewer signs cannot reach 5 %."""
FEW_DIFFER = 40
"""Clusters that differ, below which the t test is replaced where most do not differ."""
ENUMERATED = 13
"""Up to so many clusters, every pattern of signs is tried; beyond, `NUM_FLIPS` at random."""
NUM_FLIPS = 9_999

Kind = Literal["t", "sign flips", "t of cluster means"]


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
    alpha = 1 - confidence_level
    match choose_kind(sums_C, weights_C):
        case "t":
            return _by_t(estimate, error, error, len(sums_C) - 1, alpha=alpha, kind="t")
        case "sign flips":
            return _by_flips(sums_C, weights_C, error, alpha=alpha)
        case "t of cluster means":
            means_C = sums_C / weights_C
            own = float(np.std(means_C, ddof=1)) / math.sqrt(len(means_C))
            kind: Kind = "t of cluster means"
            return _by_t(float(np.mean(means_C)), own, error, len(means_C) - 1, alpha=alpha, kind=kind)


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
    even = unlike <= ALIKE or (count / unlike >= MANY_CLUSTERS and float(weights_C.max()) / total <= LARGE_SHARE)
    differing = int(np.count_nonzero(sums_C))
    if count < FEWEST_TO_FLIP:
        return "t" if unlike <= ALIKE else "t of cluster means"
    sparse = differing < FEW_DIFFER and differing < 0.7 * count
    return "t" if even and not sparse else "sign flips"


def _by_t(centre: float, error: float, reported: float, df: int, *, alpha: float, kind: Kind) -> Spread:
    critical = student_t.quantile(1 - alpha / 2, df=df)
    return Spread(
        standard_error=reported,
        low=centre - critical * error,
        high=centre + critical * error,
        p_value=student_t.two_sided_p(centre / error, df=df) if error else None,
        detectable=(critical + student_t.quantile(POWER, df=df)) * error,
        kind=kind,
    )


def _by_flips(sums_C: Numbers, weights_C: Numbers, error: float, *, alpha: float) -> Spread:
    """Compare the sum with the sums under flipped signs; ties count half (the mid p value).

    A shift t is refused where few patterns bring sums as large from the clusters' sums less t times their weights. Each
    pattern covers the shifts between two crossings, so the ends of the interval are quantiles of these.
    """
    import numpy as np

    signs_FC = _sign_patterns(len(sums_C), NUM_FLIPS)
    flipped_F, leant_F = signs_FC @ sums_C, signs_FC @ weights_C
    total, weight = float(np.sum(sums_C)), float(np.sum(weights_C))
    size = 1e-9 * float(np.sum(np.abs(sums_C)))
    beyond = float(np.mean(np.abs(flipped_F) > abs(total) + size))
    tied = float(np.mean(np.abs(np.abs(flipped_F) - abs(total)) <= size))
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings_2F = np.stack([(total - flipped_F) / (weight - leant_F), (total + flipped_F) / (weight + leant_F)])
    same_F = np.abs(np.abs(leant_F) - weight) <= 1e-9 * weight
    known_2F = np.isfinite(crossings_2F)
    low_F = np.where(same_F, -np.inf, np.where(known_2F, crossings_2F, np.inf).min(axis=0))
    high_F = np.where(same_F, np.inf, np.where(known_2F, crossings_2F, -np.inf).max(axis=0))
    low, high = float(np.quantile(low_F, alpha, method="lower")), float(np.quantile(high_F, 1 - alpha, method="higher"))
    known = math.isfinite(low) and math.isfinite(high)
    df = len(sums_C) - 1
    widening = 1 + student_t.quantile(POWER, df=df) / student_t.quantile(1 - alpha / 2, df=df)
    return Spread(
        standard_error=error,
        low=low if known else None,
        high=high if known else None,
        p_value=min(1.0, beyond + tied / 2) if tied < 1 else 1.0,
        detectable=(high - low) / 2 * widening if known else None,
        kind="sign flips",
    )


@lru_cache(maxsize=1)
def _sign_patterns(count: int, flips: int) -> Numbers:
    """Give every pattern of signs of few clusters, the first one's fixed; of many, the true one and random others."""
    import numpy as np

    if count <= ENUMERATED:
        patterns = np.arange(1 << (count - 1))[:, None] >> np.arange(count)[None, :]
        return (1.0 - 2.0 * (patterns & 1)).astype(np.float64)
    rng = np.random.default_rng(count)
    drawn = rng.choice(np.array([-1.0, 1.0]), size=(flips, count))
    return np.concatenate([np.ones((1, count)), drawn])
