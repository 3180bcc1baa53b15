"""The smallest difference a comparison would find, from the items alone, before the second model has answered."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

from finetune_exe.domain.comparison import Detectable, ForeseenComparison
from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation import student_t
from finetune_exe.evaluation.spread import POWER, counted_parts, number_clusters

DISCORDANT = (0.1, 0.2, 0.3)
"""Shares of items on which two models might differ."""
CORRELATIONS = (0.9, 0.7, 0.5)
"""How alike two models might score the same items."""
SHARED = 0.3
"""Correlation assumed between the differences of items of one cluster."""


def detectable_difference(
    sizes: Sequence[int], *, deviation: float, shared: float, alpha: float = 0.05, power: float = POWER
) -> float | None:
    """Give the smallest true mean difference that is found with the wanted power; None with fewer than two clusters.

    Args:
        sizes: Items of each cluster.
        deviation: Standard deviation of the difference of one item.
        shared: Correlation of the differences of two items of one cluster, 0 to 1.
        alpha: Level of the test.
        power: Share of such differences to be found.

    Source: Donner and Klar, Design and Analysis of Cluster Randomization Trials (2000), for the design effect.
    """
    if len(sizes) < 2:
        return None
    import numpy as np

    size_C = np.array(sizes, dtype=np.float64)
    part_C = counted_parts(size_C)
    variance = float(np.sum(part_C**2 * size_C * (1 + (size_C - 1) * shared)))
    error = deviation * math.sqrt(variance) / float(np.sum(part_C * size_C))
    df = len(sizes) - 1
    return error * (student_t.quantile(1 - alpha / 2, df=df) + student_t.quantile(power, df=df))


def foresee(
    name: str, scores: Sequence[float], clusters: Sequence[Hashable], *, confidence_level: float = 0.95
) -> ForeseenComparison:
    """Say what a comparison with a model to come could find on these items.

    Args:
        name: The first model.
        scores: Its scores.
        clusters: What each item belongs to.
        confidence_level: Of the interval.

    Raises:
        FineTuneError: E03 where there is no score.
    """
    import numpy as np

    if not scores:
        raise FineTuneError(
            "E03",
            what="no item has a score",
            where=name,
            why="nothing can be foreseen without one",
            fix="find out why the model was not judged; another field: --score KEY",
        )
    values = np.asarray(scores, dtype=np.float64)
    sizes = np.bincount(number_clusters(clusters).index).tolist()
    shared = SHARED if len(sizes) < len(values) else 0.0
    if set(np.unique(values).tolist()) <= {0.0, 1.0}:
        assumed = [(f"the models differ on {share:.0%} of the items", math.sqrt(share), share) for share in DISCORDANT]
    else:
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        assumed = [
            (f"the scores correlate by {correlation:g}", deviation * math.sqrt(2 * (1 - correlation)), math.inf)
            for correlation in CORRELATIONS
        ]
    return ForeseenComparison(
        a=name,
        n=len(values),
        clusters=len(sizes),
        mean_a=float(np.mean(values)),
        confidence_level=confidence_level,
        detectable=tuple(
            Detectable(
                assumption=words,
                difference=_possible(
                    detectable_difference(sizes, deviation=spread, shared=shared, alpha=1 - confidence_level), most=most
                ),
            )
            for words, spread, most in assumed
        ),
    )


def _possible(difference: float | None, *, most: float) -> float | None:
    """Give a difference, or None where two models that differ on so few items cannot differ by so much."""
    return None if difference is None or difference > most else difference
