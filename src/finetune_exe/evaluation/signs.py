"""The p value of a mean over few clusters, for any difference that is assumed: skewness corrected, signs flipped.

Gains are seldom symmetric: a tuned model loses much on a few items and gains a little on many. Student's t then finds
differences up to three times too often. Two remedies stand together:

- The t statistic is passed through Hall's monotone cubic, which takes the skewness of the mean out of it. A handful of
  cluster means does not tell their skewness; their items do. The third moment of the items is carried over to sums of
  clusters by the share of variance that items of a cluster have in common, as if that share were as skewed as the rest.
  Where clusters turn out to be more skewed than that, as where a few of them lose altogether, the difference is
  believed the more, the more clusters there are.
- The result is ranked among those that arise when the signs of whole clusters are flipped. Without a difference, and
  with symmetric gains, each sign is as likely as the other, whatever the sizes, the tails and the ties, so that noise
  in the estimate of the skewness cannot raise the level.

Fewer than seven clusters have too few signs for a level of 5 %. They are judged by Student's t of the corrected
statistic, and only where no other signs would bring one as large.

Source: Hall, Journal of the Royal Statistical Society B 54 (1992) 221-228 for the cubic; Canay, Santos and Shaikh,
Review of Economics and Statistics 103 (2021) for flipped signs of few clusters; error rates in benchmarks/verdicts.md.

Names: C clusters, F patterns of signs, M sums that follow the signs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from finetune_exe.evaluation import student_t

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray

    Numbers = NDArray[float64]
    Counts = NDArray[int64]

FEWEST_TO_FLIP = 7
"""Clusters with fewer signs cannot reach 5 %."""
ENUMERATED = 13
"""Up to so many clusters, every pattern of signs is tried; beyond, `NUM_FLIPS` at random."""
NUM_FLIPS = 9_999
HALF_BELIEVED = 10
"""Clusters whose own skewness counts as much as what is carried over from their items, where it is the larger one."""
_BLOCK = 1_000
_TINY = 1e-12


class Sizes(NamedTuple):
    """Sums over clusters of powers of what one item counts, `a`, and of what its cluster holds, `n`."""

    a2n: float
    a3n: float
    a2n2: float
    a3n3: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedClusters:
    """Sums over clusters, under the true signs (first) and under flipped ones.

    Capitals are sums over a cluster: D of differences d, W of weights w.
    """

    flipped_MF: Numbers
    """D, W, DW, WW, DDD, DDW, DWW, WWW, dw, ww, ddd, ddw, dww, www, each times the sign of its cluster."""
    squares: float
    """Sum of d squared over items."""
    cluster_squares: float
    """Sum of D squared over clusters."""
    sizes: Sizes
    clusters: int
    unit: float
    """The largest of the differences, by which all were divided: third powers of tiny ones would vanish."""

    def p_value(self, assumed: float) -> float:
        """Say how often a difference as far from the assumed one, or farther, arises where that is true."""
        import numpy as np

        beyond_F = np.abs(self.statistics(assumed))
        size = 1e-9 * (1 + beyond_F[0])
        rank = float(np.mean(beyond_F > beyond_F[0] + size) + np.mean(np.abs(beyond_F - beyond_F[0]) <= size) / 2)
        if self.clusters >= FEWEST_TO_FLIP:
            return rank
        by_t = student_t.two_sided_p(float(beyond_F[0]), df=self.clusters - 1)
        alone = rank <= 0.5 / len(beyond_F)
        return by_t if alone else max(by_t, rank)

    def statistics(self, assumed: float) -> Numbers:
        """Give the t statistic, its skewness taken out, under each pattern of signs."""
        import numpy as np

        t = assumed / self.unit
        D, W, DW, WW, *of_clusters, dw, ww, ddd, ddw, dww, www = self.flipped_MF
        sum_F = D - t * W
        mean_F = sum_F / W[0]
        spread = self.cluster_squares - 2 * t * DW[0] + t * t * WW[0]
        spread_F = spread - 2 * mean_F * (DW - t * WW) + mean_F**2 * WW[0]
        second_F = (self.squares - 2 * t * dw[0] + t * t * ww[0]) - 2 * mean_F * (dw - t * ww) + mean_F**2 * ww[0]
        known_F = (spread_F > _TINY * spread) & (second_F > 0)
        variance_F = np.where(known_F, spread_F, 1.0) * (self.clusters / (self.clusters - 1))
        carried_F = self._carried(variance_F, np.where(known_F, second_F, 1.0), _third(mean_F, t, ddd, ddw, dww, www))
        own_F = self._own(variance_F, _third(mean_F, t, *of_clusters))
        larger_F = np.where(np.abs(own_F) > np.abs(carried_F), own_F, carried_F)
        believed = self.clusters / (self.clusters + HALF_BELIEVED) if self.clusters >= FEWEST_TO_FLIP else 0.0
        skew_F = np.where(known_F, carried_F + believed * (larger_F - carried_F), 0.0)
        t_F = np.where(known_F, sum_F / np.sqrt(variance_F), np.sign(sum_F) / _TINY)
        return np.asarray(t_F + skew_F * t_F**2 / 3 + skew_F**2 * t_F**2 * t_F / 27 + skew_F / 6)

    def _own(self, variance_F: Numbers, third_F: Numbers) -> Numbers:
        """Give the skewness of the sum by that of the clusters themselves, corrected for how few they are."""
        lost = self.clusters**2 / max(1, (self.clusters - 1) * (self.clusters - 2))
        return lost * third_F / _root_of_cube(variance_F)

    def _carried(self, variance_F: Numbers, second_F: Numbers, third_F: Numbers) -> Numbers:
        """Carry the skewness of items over to the sum of clusters."""
        import numpy as np

        a2n, a3n, a2n2, a3n3 = self.sizes
        together = a2n2 - a2n
        common_F = np.clip((variance_F / second_F - 1) * a2n / together, 0, 1) if together > 0 else 0 * second_F
        shared_F, own_F = _root_of_cube(common_F), _root_of_cube(1 - common_F)
        grown_F = (shared_F * a3n3 + own_F * a3n) / (shared_F + own_F) / a3n
        return np.asarray(third_F * grown_F / _root_of_cube(np.maximum(variance_F, second_F)))


def _root_of_cube(values: Numbers) -> Numbers:
    """Raise to the power of three halves, in a third of the time that a power takes."""
    import numpy as np

    return np.asarray(values * np.sqrt(values))


def _third(mean_F: Numbers, t: float, ddd: Numbers, ddw: Numbers, dww: Numbers, www: Numbers) -> Numbers:
    """Sum third powers of what is left of differences, less t for each weight, when their mean is taken away."""
    import numpy as np

    return np.asarray(
        (ddd - 3 * t * ddw + 3 * t**2 * dww - t**3 * www)
        - 3 * mean_F * (ddw[0] - 2 * t * dww[0] + t**2 * www[0])
        + 3 * mean_F**2 * (dww - t * www)
        - mean_F**2 * mean_F * www[0]
    )


def flip_signs(differences: Numbers, weights: Numbers, cluster_of: Counts, parts_C: Numbers) -> SignedClusters:
    """Sum over clusters under every pattern of signs, or many at random.

    Args:
        differences: What each item adds to the numerator of the estimate.
        weights: What each adds to the denominator.
        cluster_of: Cluster of each item, numbered from 0 without gaps; each of some weight.
        parts_C: Which part of each cluster counts.
    """
    import numpy as np

    def by_cluster(values: Numbers) -> Numbers:
        return np.bincount(cluster_of, weights=values).astype(np.float64)

    counts_C = by_cluster(np.ones(len(differences)))
    unit = float(np.abs(differences).max()) or 1.0
    d, w = differences / unit * parts_C[cluster_of], weights * parts_C[cluster_of]
    D, W = by_cluster(d), by_cluster(w)
    columns = [
        D,
        W,
        D * W,
        W * W,
        D**3,
        D * D * W,
        D * W * W,
        W**3,
        *map(by_cluster, (d * w, w * w, d**3, d * d * w, d * w * w, w**3)),
    ]
    return SignedClusters(
        flipped_MF=np.ascontiguousarray(_flipped(np.stack(columns, axis=1)).T),
        squares=float(np.sum(d * d)),
        cluster_squares=float(np.sum(D * D)),
        sizes=Sizes(*(float(np.sum(parts_C**a * counts_C**n)) for a, n in ((2, 1), (3, 1), (2, 2), (3, 3)))),
        clusters=len(counts_C),
        unit=unit,
    )


def _flipped(columns_CM: Numbers) -> Numbers:
    """Sum the rows under every pattern of signs of few clusters, one's fixed; of many, under random ones.

    Rows are put in an order of their own, so that neither the order of the items nor which model is A matters.
    """
    import numpy as np

    count = len(columns_CM)
    columns_CM = columns_CM[np.lexsort(np.abs(columns_CM.T))]
    if count <= ENUMERATED:
        minus_FC = np.arange(1 << (count - 1))[:, None] >> np.arange(count)[None, :] & 1
        return np.asarray((1.0 - 2.0 * minus_FC) @ columns_CM)
    rng = np.random.default_rng(count)
    blocks = [np.sum(columns_CM, axis=0)[None]]
    for done in range(0, NUM_FLIPS, _BLOCK):
        plus_BC = rng.integers(0, 2, size=(min(_BLOCK, NUM_FLIPS - done), count), dtype=np.int8)
        blocks.append((2.0 * plus_BC - 1.0) @ columns_CM)
    return np.concatenate(blocks)
