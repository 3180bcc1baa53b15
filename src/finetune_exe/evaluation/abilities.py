"""Points of the readiness list that comparisons answer: whether the task is done better, and nothing worse."""

from __future__ import annotations

import math
from collections.abc import Sequence

from finetune_exe.domain.evaluation import GAIN_POINT, Comparison, SuiteResult
from finetune_exe.domain.values import Check
from finetune_exe.evaluation.compare import adjusted_verdict
from finetune_exe.evaluation.multiplicity import holm


def gain(comparisons: Sequence[Comparison]) -> Check:
    """Ask whether the task is done better, beyond chance: by any of the metrics, their p values raised for the number.

    Of several metrics of a model that learned nothing, one improves by chance more often than a single one would. Of
    many rows, a gain of next to nothing is beyond chance too: whether one below the margin, which would be a harmless
    loss, is worth another model, only the user knows.
    """
    adjusted = holm([c.p_value for c in comparisons])
    judged = {c.metric: adjusted_verdict(c, p) for c, p in zip(comparisons, adjusted, strict=True)}
    better = [c for c in comparisons if judged[c.metric] == "improved"]
    much, little = [c for c in better if c.gain >= c.margin], [c for c in better if c.gain < c.margin]
    alone = [c for c in comparisons if c.verdict == "improved" and c not in better]
    unsure = [c for c in comparisons if c.verdict == "inconclusive"]
    said = [
        f"improved beyond chance: {_metrics(much) or 'nothing'}" if much or not little else "",
        f"better, but by less than the margin: {_shortfalls(little)}" if little else "",
        f"not beyond what chance brings among {len(comparisons)} metrics: {_metrics(alone)}" if alone else "",
        f"cannot say: {_metrics(unsure)}" if unsure else "",
    ]
    return Check(
        name=GAIN_POINT,
        passed=True if much else False if comparisons and not little else None,
        detail="; ".join(filter(None, said)),
        fix=None if much
        else "only you know whether so little is worth another model; more data or more steps may bring more" if little
        else "more data or more steps; the smallest detectable difference says how many test rows",
    )  # fmt: skip


def _metrics(comparisons: Sequence[Comparison]) -> str:
    return ", ".join(c.metric for c in comparisons)


def _shortfalls(comparisons: Sequence[Comparison]) -> str:
    return ", ".join(f"{c.metric} by {c.gain:.2g} (margin {c.margin:.2g})" for c in comparisons)


def retention(comparisons: Sequence[Comparison], suites: Sequence[SuiteResult], *, aside: Sequence[str] = ()) -> Check:
    """Ask whether general abilities, and the other metrics of the task, were kept.

    Args:
        comparisons: Of the metrics that are judged.
        suites: Of general abilities.
        aside: Metrics that are not judged, as they speak of prompts too.
    """
    name = "nothing measured got worse"
    lost = [c.metric for c in comparisons if c.verdict == "regressed"]
    lost += [suite.name for suite in suites if suite.verdict == "regressed"]
    if lost:
        return Check(
            name=name, passed=False, detail=f"regressed: {', '.join(lost)}",
            fix="lower the learning rate, train fewer epochs, or mix in general data",
        )  # fmt: skip
    unjudged = f" ({', '.join(aside)} of the whole rows not judged: prompts are not learned)" if aside else ""
    if not suites:
        return Check(
            name=name, passed=True if comparisons else None,
            detail=f"no metric regressed{unjudged}; no regression suite was run",
            fix="fine-tune eval RUN --suites FOLDER asks for general abilities too",
        )  # fmt: skip
    idle = [suite.name for suite in suites if _nothing_to_lose(suite.comparison)]
    told = [suite for suite in suites if suite.name not in idle]
    unsure = [suite.name for suite in told if suite.verdict == "inconclusive"]
    by_metric: dict[str, list[Comparison]] = {}
    for suite in told:
        by_metric.setdefault(suite.comparison.metric, []).append(suite.comparison)
    pooled = {metric: _pooled(of_metric) for metric, of_metric in by_metric.items()}
    held = bool(told) and all(
        low is not None and low > -by_metric[metric][0].margin for metric, (_, low) in pooled.items()
    )
    changes = [
        f"mean change of {metric} {mean:+.3f}"
        + (", its lower end unknown" if low is None else f", at least {low:+.3f}")
        for metric, (mean, low) in pooled.items()
    ]
    counted = f"{len(told)} suites, {sum(suite.comparison.n for suite in told)} items: {'; '.join(changes)}"
    return Check(
        name=name,
        passed=True if held else None,
        detail=(counted if told else "no suite tells")
        + (f"; cannot say alone: {', '.join(unsure)}" if unsure else "")
        + (f"; neither model has anything right in {', '.join(idle)}" if idle else ""),
        fix=None
        if held
        else "more items: --suite-items 500, or larger suites"
        if told
        else "choose suites the base can do in part",
    )


def _nothing_to_lose(comparison: Comparison) -> bool:
    """Ask whether no item was right under either model, which says nothing of what was lost elsewhere."""
    return comparison.higher_is_better and comparison.baseline == comparison.candidate == 0


def _pooled(comparisons: Sequence[Comparison]) -> tuple[float, float | None]:
    """Give the mean change over all items of suites scored alike, and its lower end; None where one has none.

    Source: Zou and Donner, Statistics in Medicine 27 (2008) 1693-1702, for the end of a sum from those of its parts.
    """
    shares = [c.n / sum(c.n for c in comparisons) for c in comparisons]
    mean = math.fsum(share * c.difference for share, c in zip(shares, comparisons, strict=True))
    below = [
        share * (c.difference - c.ci_low) for share, c in zip(shares, comparisons, strict=True) if c.ci_low is not None
    ]
    return mean, mean - math.hypot(*below) if len(below) == len(comparisons) else None
