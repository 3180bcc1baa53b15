"""How many rows a task wants, to learn from and to tell afterwards that it was learned."""

from __future__ import annotations

from finetune_exe.domain.plan import DataNeeds
from finetune_exe.domain.task import DataProfile, TaskType
from finetune_exe.domain.values import Interval
from finetune_exe.estimate.sample_size import rows_for_means, rows_for_proportions
from finetune_exe.knowledge.data_needs import RowsWanted, rows_wanted
from finetune_exe.knowledge.rules import rule

QUALITY_CHECKS = (
    "every line is a readable row",
    "every row has an answer",
    "every loss mask is proven twice",
    "no repeats, no test row leaks",
    "no row longer than max_length",
)
_LABELS_UNKNOWN = 10
"""Labels counted with where there are no data to count them in."""
_REPEATED, _MEASURED = 0.5, 20_000
"""Distinct answers for each measured row below which the repeats are worth a word; rows measured at most."""
_BASE_SHARE, _WANTED_SHARE, _ALIKE = 0.5, 0.6, 0.4
"""Right answers before and after; their correlation. Source: 0.30 to 0.46 between the models of OpenAI's
grade-school-math example solutions (2021), on the same questions; half right needs most rows."""
_WANTED_EFFECT, _ALIKE_SCORES = 0.2, 0.5
"""A small effect in the words of Cohen (1988), in standard deviations of the score; correlation inferred."""


def data_needs(task: TaskType, profile: DataProfile | None) -> DataNeeds:
    """Say how many rows the task wants, and how many test rows show that it was learned.

    Args:
        task: What kind of task it is; not "other".
        profile: What the data show; None where none were given.
    """
    minimum, wanted = rule("minimum_rows"), rows_wanted(task)
    labels = len(profile.labels) if profile and profile.labels else _LABELS_UNKNOWN
    times = labels if wanted.per_label else 1
    least = int(minimum["rows"])
    enough = Interval(
        low=max(least, times * wanted.low),
        mid=max(least, wanted.floor, times * wanted.mid),
        high=max(least, 2 * wanted.floor, times * wanted.high),
    )
    test_samples, test_reason = wanted_test_rows(task)
    return DataNeeds(
        minimum_samples=int(enough.low) if profile and profile.labels and wanted.per_label else least,
        recommended_samples=int(enough.mid),
        recommended=enough,
        confidence=wanted.confidence,
        reason=f"gains begin near {least} rows; {_reason(wanted, profile, labels)}",
        source=f"{minimum.source}; {wanted.source}",
        test_samples=test_samples,
        test_reason=test_reason,
        quality_checks=QUALITY_CHECKS,
    )


def _reason(wanted: RowsWanted, profile: DataProfile | None, labels: int) -> str:
    if wanted.per_label:
        counted = f"{labels} labels" if profile and profile.labels else f"some {labels} labels (not known yet)"
        return f"{wanted.mid} rows for each of {counted}: {wanted.because}"
    if profile is not None and profile.distinct_answers < _REPEATED * min(profile.num_rows, _MEASURED):
        return f"{wanted.because}; yours have {profile.distinct_answers:,} distinct answers, and repeats count little"
    return wanted.because


def wanted_test_rows(task: TaskType) -> tuple[int, str]:
    """Count the rows that show a wanted effect, and say which."""
    if task in ("classification", "reasoning"):
        rows = rows_for_proportions(_BASE_SHARE, _WANTED_SHARE, correlation=_ALIKE)
        effect = f"{_BASE_SHARE:.0%} right to {_WANTED_SHARE:.0%} right"
        return rows, (
            f"{rows} test rows find a rise from {effect} four times in five, "
            f"if base and tuned model are right on the same rows as often as a correlation of {_ALIKE} makes them"
        )
    rows = rows_for_means(_WANTED_EFFECT, correlation=_ALIKE_SCORES)
    return rows, (
        f"{rows} test rows find a rise by {_WANTED_EFFECT} standard deviations of the score four times in five, "
        f"if the scores of base and tuned model correlate by {_ALIKE_SCORES}"
    )
