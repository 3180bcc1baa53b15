"""Paired comparisons of two models on the same items, honest about items that belong together.

Items of one document, module or template are not independent. Each comparison therefore sums the deviations inside a
cluster before squaring them, and counts clusters, not items, as observations (`spread`).

Source: Miller, arXiv 2411.00640 (2024), on clustered and paired errors in model evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

from finetune_exe.domain.evaluation import FEWEST_FOR_VERDICT, Comparison, Verdict, WeighedDown
from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation import mcnemar
from finetune_exe.evaluation.spread import (
    POWER,
    Clusters,
    Spread,
    Weighed,
    counted_parts,
    effective_count,
    measure_spread,
    number_clusters,
)

if TYPE_CHECKING:
    from finetune_exe.evaluation.spread import Numbers

_LARGEST_LOG = 700.0


def compare_means(
    baseline: Sequence[float],
    candidate: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    metric: str,
    higher_is_better: bool,
    margin: float,
    confidence_level: float = 0.95,
) -> Comparison:
    """Compare the mean scores of two models by a paired test of their clusters.

    Where nothing varies, or all items are of one cluster, the interval and the p value are None and the verdict is
    inconclusive: no spread can be estimated.

    Args:
        baseline: Score of each of n items under the first model.
        candidate: Score of the same items, in the same order, under the second.
        clusters: What each item belongs to; items with equal values may depend on each other.
        metric: Name for the report.
        higher_is_better: Direction of the metric.
        margin: Loss, on the metric's own scale and not negative, that would still be called harmless.
        confidence_level: Of the interval; the test's level is 1 minus this.

    Raises:
        FineTuneError: E01 where there is no item, or a score is not a finite number.
    """
    import numpy as np

    before, after = (
        _finite(baseline, model="baseline", metric=metric),
        _finite(candidate, model="candidate", metric=metric),
    )
    grouped = number_clusters(clusters)
    assert len(before) == len(after) == len(grouped.index), "baseline, candidate and clusters must be parallel"
    differences = after - before
    difference = float(np.mean(differences))
    scale = float(max(np.abs(before).max(), np.abs(after).max()))
    outcomes = _outcomes(before, after, grouped)
    if outcomes is None:
        ones = np.ones(len(differences))
        spread = measure_spread(differences, ones, grouped, confidence_level=confidence_level, scale=scale)
        test = _test_name("paired t", spread, len(differences), grouped.count)
    else:
        spread = _exact_spread(outcomes, confidence_level=confidence_level)
        test = "McNemar, exact" + ("" if grouped.count == len(differences) else ", of whole clusters")
    return Comparison(
        metric=metric,
        higher_is_better=higher_is_better,
        baseline=float(np.mean(before)),
        candidate=float(np.mean(after)),
        difference=difference,
        standard_error=spread.standard_error,
        ci_low=spread.low,
        ci_high=spread.high,
        confidence_level=confidence_level,
        p_value=spread.p_value,
        test=test,
        n=len(differences),
        clusters=grouped.count,
        minimum_detectable_difference=spread.detectable,
        verdict=judge(
            difference,
            spread.low,
            spread.high,
            higher_is_better=higher_is_better,
            p_value=spread.p_value,
            margin=margin,
            level=1 - confidence_level,
            clusters=grouped.count,
        ),
        margin=margin,
        weighed_down=weighed_down(spread.weighed, clusters),
    )


def weighed_down(weighed: Weighed | None, clusters: Sequence[Hashable], *, unit: float = 1.0) -> WeighedDown | None:
    """Name the clusters that count for less than they hold.

    Args:
        weighed: What is known of them by number; None where there are none.
        clusters: The cluster of each item, by name.
        unit: Of the difference, in those it was estimated in.
    """
    if weighed is None:
        return None
    names = list(dict.fromkeys(clusters))
    return WeighedDown(
        clusters=tuple(str(names[number]) for number in weighed.clusters),
        held=weighed.held,
        counted=weighed.counted,
        difference=weighed.estimate / unit,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcomes:
    """Items won, lost and tied, where that is all there is."""

    wins: int
    losses: int
    n: int
    unit: float
    """What one that is won adds to the score."""


def _outcomes(before: Numbers, after: Numbers, clusters: Clusters) -> _Outcomes | None:
    """Count wins and losses where every item is right or wrong, or preferred or not, and stands alone; else None.

    Where all items of all clusters come out alike, clusters are counted, as many as their sizes are worth: one win of
    each is all there is to see, and no other spread could be estimated.
    """
    import numpy as np

    unit = _unit_won(before, after)
    if clusters.count < 2 or unit is None:
        return None
    wins, losses, n = int((after > before).sum()), int((before > after).sum()), len(before)
    if clusters.count < n:
        if max(wins, losses, n - wins - losses) < n:
            return None
        sizes_C = np.bincount(clusters.index).astype(np.float64)
        worth = int(effective_count(sizes_C * counted_parts(sizes_C)))
        wins, losses, n = worth * (wins > 0), worth * (losses > 0), worth
    return _Outcomes(wins=wins, losses=losses, n=n, unit=unit)


def _unit_won(before: Numbers, after: Numbers) -> float | None:
    """Say what winning an item adds: 1 or 100 for right against wrong, 0.5 for a preference; None for other scores."""
    import numpy as np

    most = float(max(before.max(), after.max()))
    if most in (1.0, 100.0) and all(bool(np.isin(scores, (0.0, most)).all()) for scores in (before, after)):
        return most
    return 0.5 if bool((before == 0.5).all() and np.isin(after, (0.0, 0.5, 1.0)).all()) else None


def _exact_spread(outcomes: _Outcomes, *, confidence_level: float) -> Spread:
    wins, losses, n, unit = outcomes.wins, outcomes.losses, outcomes.n, outcomes.unit
    alpha = 1 - confidence_level
    low, high = mcnemar.interval(wins, losses, n, confidence_level=confidence_level)
    error = math.sqrt(max(0.0, wins + losses - (wins - losses) ** 2 / n) / (n - 1) / n)
    usual = (NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(POWER)) * error
    least = mcnemar.least_detectable(n, alpha=alpha, power=POWER)
    return Spread(
        standard_error=unit * error,
        low=unit * low,
        high=unit * high,
        p_value=mcnemar.exact_p(wins, losses),
        detectable=None if least is None else unit * max(usual, least),
    )


def compare_ratios(
    baseline_sums: Sequence[float],
    candidate_sums: Sequence[float],
    weights: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    metric: str,
    transform: Literal["perplexity", "bits_per_byte"],
    margin: float,
    confidence_level: float = 0.95,
) -> Comparison:
    """Compare two models on a metric that is a sum of log-likelihoods over a sum of tokens or bytes.

    Both rest on the mean negative log-likelihood, sum over sum, never on a mean of per-item perplexities. Test, p
    value and verdict are of the difference of these means (the linearised ratio estimator, clustered). For perplexity
    `baseline` and `candidate` are its exponentials; `difference`, its error and its interval are of the exponentials,
    by the delta method; `relative`, its interval and the smallest detectable difference are exact images of the log
    scale, the last one in the direction of the change: a fall by a factor is smaller than a rise by it. Lower is
    better.

    Args:
        baseline_sums: Negative log-likelihood of each of n items in nats, summed over the item, first model.
        candidate_sums: The same for the second.
        weights: Tokens (perplexity) or bytes (bits per byte) of each item.
        clusters: What each item belongs to.
        metric: Name for the report.
        transform: What becomes of nats per weight.
        margin: Rise of the metric, on its own scale and not negative, that would still be called harmless.
        confidence_level: Of the interval; the test's level is 1 minus this.

    Raises:
        FineTuneError: E01 where there is no weight at all, or a number is not finite.

    Source: Cochran, Sampling Techniques (1977), 6.3 and 9A for the ratio estimator of cluster totals.
    """
    import numpy as np

    before = _finite(baseline_sums, model="baseline", metric=metric)
    after = _finite(candidate_sums, model="candidate", metric=metric)
    sizes = _finite(weights, model="weight", metric=metric)
    grouped = number_clusters(clusters)
    assert len(before) == len(after) == len(sizes) == len(grouped.index), "sums, weights and clusters must be parallel"
    total = float(np.sum(sizes))
    if total <= 0:
        raise _nothing_to_compare(metric, what="the items hold no token or byte to be judged on")
    mean_before, mean_after = float(np.sum(before)) / total, float(np.sum(after)) / total
    delta = mean_after - mean_before
    scale = float(max(np.abs(before).max(), np.abs(after).max()))
    level = confidence_level
    spread = measure_spread(after - before, sizes, grouped, confidence_level=level, scale=scale)
    shared = _Ratio(metric=metric, cluster_of=clusters, clusters=grouped.count, margin=margin, spread=spread,
                    delta=delta, confidence_level=level)  # fmt: skip
    if transform == "bits_per_byte":
        return _bits(shared, mean_before, mean_after)
    worst = max(mean_before, mean_after)
    if worst > _LARGEST_LOG:
        raise _nothing_to_compare(metric, what=f"a mean loss of {worst:.0f} nats has no perplexity")
    ends = math.exp(mean_before), math.exp(mean_after)
    if spread.low is None:
        return _perplexity(shared, *ends, own_scale=spread)
    rise = ends[1] - ends[0]
    residuals = ends[1] * (after - mean_after * sizes) - ends[0] * (before - mean_before * sizes)
    linear = residuals + rise * sizes
    own = measure_spread(linear, sizes, grouped, confidence_level=level, scale=max(ends) * scale)
    return _perplexity(shared, *ends, own_scale=own)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ratio:
    """What both transforms of a ratio comparison share; `delta` and `spread` in nats per weight."""

    metric: str
    cluster_of: Sequence[Hashable]
    clusters: int
    margin: float
    spread: Spread
    delta: float
    confidence_level: float

    @property
    def n(self) -> int:
        """Count the items."""
        return len(self.cluster_of)


def _bits(ratio: _Ratio, mean_before: float, mean_after: float) -> Comparison:
    """Express a comparison in bits."""
    bit, spread = math.log(2), ratio.spread
    difference = ratio.delta / bit
    low, high = (None if end is None else end / bit for end in (spread.low, spread.high))
    return Comparison(
        metric=ratio.metric,
        higher_is_better=False,
        baseline=mean_before / bit,
        candidate=mean_after / bit,
        difference=difference,
        standard_error=None if spread.standard_error is None else spread.standard_error / bit,
        ci_low=low,
        ci_high=high,
        confidence_level=ratio.confidence_level,
        p_value=spread.p_value,
        test=_test_name("ratio t", spread, ratio.n, ratio.clusters),
        n=ratio.n,
        clusters=ratio.clusters,
        minimum_detectable_difference=None if spread.detectable is None else spread.detectable / bit,
        verdict=judge(
            difference, low, high, higher_is_better=False,
            p_value=spread.p_value, margin=ratio.margin, level=1 - ratio.confidence_level, clusters=ratio.clusters,
        ),
        margin=ratio.margin,
        weighed_down=weighed_down(spread.weighed, ratio.cluster_of, unit=bit),
    )  # fmt: skip


def _perplexity(ratio: _Ratio, before: float, after: float, *, own_scale: Spread) -> Comparison:
    """Express a comparison as perplexities; the verdict stays that of the log scale."""
    spread = ratio.spread
    return Comparison(
        metric=ratio.metric,
        higher_is_better=False,
        baseline=before,
        candidate=after,
        difference=after - before,
        standard_error=own_scale.standard_error,
        ci_low=own_scale.low,
        ci_high=own_scale.high,
        confidence_level=ratio.confidence_level,
        p_value=spread.p_value,
        test=_test_name("ratio t on mean log-likelihood", spread, ratio.n, ratio.clusters),
        n=ratio.n,
        clusters=ratio.clusters,
        minimum_detectable_difference=None if spread.detectable is None
        else before * abs(math.expm1(math.copysign(spread.detectable, ratio.delta))),
        verdict=judge(
            ratio.delta, spread.low, spread.high, higher_is_better=False,
            p_value=spread.p_value, margin=math.log1p(ratio.margin / before), level=1 - ratio.confidence_level,
            clusters=ratio.clusters,
        ),
        margin=ratio.margin,
        relative=math.expm1(ratio.delta),
        relative_ci_low=None if spread.low is None else math.expm1(spread.low),
        relative_ci_high=None if spread.high is None else math.expm1(spread.high),
        weighed_down=weighed_down(own_scale.weighed, ratio.cluster_of),
    )  # fmt: skip


def judge(
    difference: float,
    low: float | None,
    high: float | None,
    *,
    higher_is_better: bool,
    p_value: float | None,
    margin: float,
    level: float,
    clusters: int,
) -> Verdict:
    """Judge a difference by its interval, its p value and the loss that would be harmless.

    Args:
        difference: The estimate.
        low: Lower end of its interval; None where nothing can be said.
        high: Upper end.
        higher_is_better: Direction of the metric.
        p_value: Of the test of no difference; None where there is none.
        margin: Loss that would still be called harmless, not negative.
        level: Share of false alarms allowed.
        clusters: What it all rests on; too few decide nothing.
    """
    if low is None or high is None or clusters < FEWEST_FOR_VERDICT:
        return "inconclusive"
    gain, low, high = (difference, low, high) if higher_is_better else (-difference, -high, -low)
    differs = p_value is not None and p_value < level
    if low > 0 and gain > 0 and differs:
        return "improved"
    if low > -margin and gain > -margin:
        return "non_inferior"
    if high < 0 and gain < -margin and differs:
        return "regressed"
    return "inconclusive"


def _test_name(kind: str, spread: Spread, n: int, num_clusters: int) -> str:
    match spread.kind:
        case "sign flips":
            return "signs flipped" if n == num_clusters else "signs of whole clusters flipped"
        case "few clusters":
            return f"{kind}, corrected for skewness, {_degrees(num_clusters - 1)}"
        case "t" if n == num_clusters:
            return kind
        case _:
            return f"{kind}, clustered, {_degrees(num_clusters - 1)}"


def _degrees(count: int) -> str:
    return f"{count} degree{'' if count == 1 else 's'} of freedom"


def _finite(values: Sequence[float], *, model: str, metric: str) -> Numbers:
    """Make an array of the values, refusing none at all and any that is no finite number."""
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise _nothing_to_compare(metric, what="there is no item to compare")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise FineTuneError(
            "E01",
            what=f"{bad.size} of {array.size} {model} values of {metric} are not finite numbers",
            where=f"row {int(bad[0])}, counted from 0, is {array[bad[0]]}",
            why="their mean would be no number either, and leaving rows out would favour the model that failed there",
            fix="find out why the row has no score; leave it out of both files if no model can be judged on it",
        )
    return array


def _nothing_to_compare(metric: str, *, what: str) -> FineTuneError:
    return FineTuneError(
        "E01",
        what=f"{metric} cannot be compared: {what}",
        where="the evaluated rows",
        why="without them there is no mean and no spread",
        fix="give the evaluation rows that have an answer to learn from",
    )
