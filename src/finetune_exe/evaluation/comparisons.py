"""Every paired comparison of base and tuned model: likelihoods, answers, the metrics of the task, suites."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from finetune_exe.domain.evaluation import Comparison, SuiteResult, TaskFigure
from finetune_exe.domain.plan import Plan
from finetune_exe.evaluation.compare import adjusted_verdict
from finetune_exe.evaluation.likelihood import RowLikelihoods
from finetune_exe.evaluation.measure import Measured
from finetune_exe.evaluation.metrics import METRICS
from finetune_exe.evaluation.multiplicity import holm
from finetune_exe.evaluation.questions import Questions, known_labels
from finetune_exe.evaluation.statistics import compare_means, compare_ratios
from finetune_exe.evaluation.suites import Suite
from finetune_exe.evaluation.tasks import metrics_for
from finetune_exe.evaluation.tasks.answered import TaskScores
from finetune_exe.models.generate import Answer

HARMLESS = 0.01
"""Loss still called harmless: a share of the base's perplexity and bits; of answers, a hundredth of their scale."""
_LARGEST_LOG = 700.0
SUITE_MARGIN = 0.02
"""Loss of two items in a hundred that is still called harmless; of texts, in bits per byte."""


def likelihood_comparisons(
    plan: Plan, before: RowLikelihoods, after: RowLikelihoods, clusters: list[str]
) -> list[Comparison]:
    """Compare how well both models predict the answers, and the whole texts."""
    level, wanted = plan.evaluation.confidence_level, plan.evaluation.metrics
    found = []
    if "perplexity" in wanted:
        base = math.exp(min(_LARGEST_LOG, _mean(before.learned_nll_R, before.learned_tokens_R)))
        found.append(compare_ratios(
            before.learned_nll_R.tolist(), after.learned_nll_R.tolist(), before.learned_tokens_R.tolist(), clusters,
            metric="perplexity", transform="perplexity", margin=HARMLESS * base, confidence_level=level,
        ))  # fmt: skip
    if "bits_per_byte" in wanted:
        base = _mean(before.text_nll_R, before.text_bytes_R) / math.log(2)
        found.append(compare_ratios(
            before.text_nll_R.tolist(), after.text_nll_R.tolist(), before.text_bytes_R.tolist(), clusters,
            metric="bits_per_byte", transform="bits_per_byte", margin=HARMLESS * base, confidence_level=level,
        ))  # fmt: skip
    return found


def _mean(nll_R: np.ndarray, weights_R: np.ndarray) -> float:
    return float(nll_R.sum()) / max(1.0, float(weights_R.sum()))


def answer_comparisons(
    plan: Plan, questions: Questions, before: list[Answer], after: list[Answer], clusters: list[str]
) -> list[Comparison]:
    """Compare generated answers by the plan's metrics."""
    if not questions.rows:
        return []
    return [
        compare_means(
            METRICS[name].scores(questions.said(before), questions.references),
            METRICS[name].scores(questions.said(after), questions.references),
            [clusters[row] for row in questions.rows],
            metric=name,
            higher_is_better=True,
            margin=HARMLESS,
            confidence_level=plan.evaluation.confidence_level,
        )
        for name in plan.evaluation.metrics
        if name in METRICS
    ]


def task_scores(
    plan: Plan, questions: Questions, before: list[Answer], after: list[Answer]
) -> tuple[TaskScores, TaskScores] | None:
    """Score both models' answers as the kind of task is scored, base first; None where it has no metrics."""
    labels = known_labels(plan, questions.references)
    metrics = metrics_for(plan.task.type, questions.references, labels) if questions.rows else None
    if metrics is None:
        return None
    return metrics.score(questions.answered(before)), metrics.score(questions.answered(after))


def task_comparisons(
    plan: Plan, scores: tuple[TaskScores, TaskScores] | None, clusters: list[str]
) -> tuple[Comparison, ...]:
    """Compare the scores of single answers."""
    if scores is None:
        return ()
    return tuple(
        compare_means(
            before, scores[1].items[name], clusters, metric=name, higher_is_better=True, margin=HARMLESS,
            confidence_level=plan.evaluation.confidence_level,
        )
        for name, before in scores[0].items.items()
        if name not in plan.evaluation.metrics
    )  # fmt: skip


def task_figures(scores: tuple[TaskScores, TaskScores] | None) -> tuple[TaskFigure, ...]:
    """Give the figures of all answers together."""
    if scores is None:
        return ()
    before, after = scores[0].figures, scores[1].figures
    return tuple(
        TaskFigure(name=name, baseline=before[name], candidate=after[name]) for name in before if name in after
    )


def suite_results(suites: Sequence[Suite], before: Measured, after: Measured, level: float) -> tuple[SuiteResult, ...]:
    """Compare suite by suite, and all together where there are several; p values are raised for their number."""
    found = [
        compare_means(
            before.suites[suite.name], after.suites[suite.name], [item.cluster for item in suite.items],
            metric="minus bits per byte" if suite.kind == "text" else "accuracy", higher_is_better=True,
            margin=SUITE_MARGIN, confidence_level=level,
        )
        for suite in suites
    ]  # fmt: skip
    adjusted = holm([comparison.p_value for comparison in found])
    return tuple(
        SuiteResult(
            name=suite.name, kind=suite.kind, digest=suite.digest, comparison=comparison, p_adjusted=p,
            verdict=adjusted_verdict(comparison, p),
        )
        for suite, comparison, p in zip(suites, found, adjusted, strict=True)
    )  # fmt: skip
