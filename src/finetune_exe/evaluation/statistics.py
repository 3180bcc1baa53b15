"""Paired comparisons of two models on the same items, honest about items that belong together.

Items of one document, module or template are not independent. Each comparison therefore sums the deviations inside a
cluster before squaring them, and counts clusters, not items, as observations.

Source: Liang and Zeger, Biometrika 73 (1986) for the variance, with the factor C / (C - 1) known as CR1;
Miller, arXiv 2411.00640 (2024), on clustered and paired errors in model evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from finetune_exe.domain.evaluation import Comparison, Verdict
from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation import student_t

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray

    Numbers = NDArray[float64]
    Counts = NDArray[int64]

POWER = 0.8
"""Share of true differences of the minimum detectable size that the test would find."""
_LARGEST_LOG = 700.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clusters:
    """Which of `count` clusters each item belongs to, numbered from 0."""

    index: Counts
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spread:
    """How well an estimate is known: its standard error over C clusters, and what follows from it."""

    standard_error: float | None
    half_width: float | None
    """Half the confidence interval; None where no interval can be given."""
    p_value: float | None
    detectable: float | None


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
    """Compare the mean scores of two models by a paired t test with clustered standard error.

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
    grouped = _numbered(clusters)
    assert len(before) == len(after) == len(grouped.index), "baseline, candidate and clusters must be parallel"
    differences = after - before
    difference = float(np.mean(differences))
    spread = _spread(
        difference,
        differences - difference,
        len(differences),
        grouped,
        confidence_level=confidence_level,
        scale=float(max(np.abs(before).max(), np.abs(after).max())),
    )
    width = spread.half_width
    return Comparison(
        metric=metric,
        higher_is_better=higher_is_better,
        baseline=float(np.mean(before)),
        candidate=float(np.mean(after)),
        difference=difference,
        standard_error=spread.standard_error,
        ci_low=None if width is None else difference - width,
        ci_high=None if width is None else difference + width,
        p_value=spread.p_value,
        test=_test_name("paired t", len(differences), grouped.count),
        n=len(differences),
        clusters=grouped.count,
        minimum_detectable_difference=spread.detectable,
        verdict=_verdict(difference if higher_is_better else -difference, width, margin=margin),
        margin=margin,
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
    by the delta method; `relative` and its interval are exact images of the log scale. Lower is better.

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
    grouped = _numbered(clusters)
    assert len(before) == len(after) == len(sizes) == len(grouped.index), "sums, weights and clusters must be parallel"
    total = float(np.sum(sizes))
    if total <= 0:
        raise _nothing_to_compare(metric, what="the items hold no token or byte to be judged on")
    mean_before, mean_after = float(np.sum(before)) / total, float(np.sum(after)) / total
    delta = mean_after - mean_before
    residual_before, residual_after = before - mean_before * sizes, after - mean_after * sizes
    scale = float(max(np.abs(before).max(), np.abs(after).max()))
    level = confidence_level
    spread = _spread(delta, residual_after - residual_before, total, grouped, confidence_level=level, scale=scale)
    shared = _Ratio(metric=metric, n=len(sizes), clusters=grouped.count, margin=margin, spread=spread, delta=delta)
    if transform == "bits_per_byte":
        return _bits(shared, mean_before, mean_after)
    worst = max(mean_before, mean_after)
    if worst > _LARGEST_LOG:
        raise _nothing_to_compare(metric, what=f"a mean loss of {worst:.0f} nats has no perplexity")
    ends = math.exp(mean_before), math.exp(mean_after)
    if spread.half_width is None:
        return _perplexity(shared, *ends, own_scale=spread)
    residuals = ends[1] * residual_after - ends[0] * residual_before
    own = _spread(ends[1] - ends[0], residuals, total, grouped, confidence_level=level, scale=max(ends) * scale)
    return _perplexity(shared, *ends, own_scale=own)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ratio:
    """What both transforms of a ratio comparison share; `delta` and `spread` in nats per weight."""

    metric: str
    n: int
    clusters: int
    margin: float
    spread: _Spread
    delta: float


def _bits(ratio: _Ratio, mean_before: float, mean_after: float) -> Comparison:
    """Express a comparison in bits."""
    bit, spread = math.log(2), ratio.spread
    difference = ratio.delta / bit
    width = None if spread.half_width is None else spread.half_width / bit
    return Comparison(
        metric=ratio.metric,
        higher_is_better=False,
        baseline=mean_before / bit,
        candidate=mean_after / bit,
        difference=difference,
        standard_error=None if spread.standard_error is None else spread.standard_error / bit,
        ci_low=None if width is None else difference - width,
        ci_high=None if width is None else difference + width,
        p_value=spread.p_value,
        test=_test_name("ratio t", ratio.n, ratio.clusters),
        n=ratio.n,
        clusters=ratio.clusters,
        minimum_detectable_difference=None if spread.detectable is None else spread.detectable / bit,
        verdict=_verdict(-difference, width, margin=ratio.margin),
        margin=ratio.margin,
    )


def _perplexity(ratio: _Ratio, before: float, after: float, *, own_scale: _Spread) -> Comparison:
    """Express a comparison as perplexities; the verdict stays that of the log scale."""
    difference, width, log_width = after - before, own_scale.half_width, ratio.spread.half_width
    detectable = ratio.spread.detectable
    return Comparison(
        metric=ratio.metric,
        higher_is_better=False,
        baseline=before,
        candidate=after,
        difference=difference,
        standard_error=own_scale.standard_error,
        ci_low=None if width is None else difference - width,
        ci_high=None if width is None else difference + width,
        p_value=ratio.spread.p_value,
        test=_test_name("ratio t on mean log-likelihood", ratio.n, ratio.clusters),
        n=ratio.n,
        clusters=ratio.clusters,
        minimum_detectable_difference=None if detectable is None else before * math.expm1(detectable),
        verdict=_verdict(-ratio.delta, log_width, margin=math.log1p(ratio.margin / before)),
        margin=ratio.margin,
        relative=math.expm1(ratio.delta),
        relative_ci_low=None if log_width is None else math.expm1(ratio.delta - log_width),
        relative_ci_high=None if log_width is None else math.expm1(ratio.delta + log_width),
    )


def _spread(
    estimate: float, residuals: Numbers, total: float, clusters: _Clusters, *, confidence_level: float, scale: float
) -> _Spread:
    """Derive error, interval, p value and detectable difference from the residuals of an estimate sum / total.

    Args:
        estimate: The difference tested against zero.
        residuals: Deviation of each of n items from what the estimate expects; they sum to zero.
        total: n, or the sum of the weights.
        clusters: Cluster of each item; C in all.
        confidence_level: Of the interval.
        scale: Size of the numbers the residuals came from, to tell spread from rounding.
    """
    import numpy as np

    if clusters.count < 2:
        return _Spread(standard_error=None, half_width=None, p_value=None, detectable=None)
    if float(np.abs(residuals).max()) <= 1e-12 * max(scale, abs(estimate)):
        return _Spread(standard_error=0.0, half_width=None, p_value=None, detectable=None)
    sums = np.bincount(clusters.index, weights=residuals, minlength=clusters.count)
    df = clusters.count - 1
    error = math.sqrt(clusters.count / df * float(np.sum(sums * sums))) / total
    if error == 0:
        return _Spread(standard_error=0.0, half_width=None, p_value=None, detectable=None)
    critical = student_t.quantile(0.5 + confidence_level / 2, df=df)
    return _Spread(
        standard_error=error,
        half_width=critical * error,
        p_value=student_t.two_sided_p(estimate / error, df=df),
        detectable=(critical + student_t.quantile(POWER, df=df)) * error,
    )


def _verdict(gain: float, half_width: float | None, *, margin: float) -> Verdict:
    """Judge a gain (positive is better) by its interval and the loss that would be harmless."""
    if half_width is None:
        return "inconclusive"
    if gain - half_width > 0:
        return "improved"
    if gain - half_width > -margin:
        return "non_inferior"
    if gain + half_width < 0 and gain < -margin:
        return "regressed"
    return "inconclusive"


def _test_name(kind: str, n: int, num_clusters: int) -> str:
    return kind if n == num_clusters else f"{kind}, clustered (CR1), {num_clusters - 1} degrees of freedom"


def _numbered(clusters: Sequence[Hashable]) -> _Clusters:
    """Number the clusters from 0 in order of appearance."""
    import numpy as np

    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)
    return _Clusters(index=index, count=len(numbers))


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
