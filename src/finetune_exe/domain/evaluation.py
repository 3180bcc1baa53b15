"""Whether the tuned model is better, by how much, and how sure that is."""

from __future__ import annotations

from typing import Literal

from finetune_exe.domain.document import Document, Value
from finetune_exe.domain.values import Check

Verdict = Literal["improved", "non_inferior", "regressed", "inconclusive"]


class Comparison(Value):
    """A paired comparison of two models on the same items."""

    metric: str
    higher_is_better: bool
    baseline: float
    candidate: float
    difference: float
    """candidate - baseline, on the metric's own scale."""
    standard_error: float | None
    """Of the difference, corrected for clusters; None where there are fewer than two clusters."""
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    test: str
    n: int
    """Items compared."""
    clusters: int
    minimum_detectable_difference: float | None
    """Smallest true difference that this many items find four times in five."""
    verdict: Verdict
    margin: float
    """Loss that would still be called harmless."""
    relative: float | None = None
    """difference / baseline, where that says more."""
    relative_ci_low: float | None = None
    relative_ci_high: float | None = None


class Sample(Value):
    """One test row answered by both models."""

    row: int
    """Index in the test split."""
    source: str
    """file:line of the row."""
    prompt: str
    reference: str
    baseline: str
    candidate: str


class Generation(Value):
    """How answers were produced, so that they can be produced again."""

    num_rows: int
    max_new_tokens: int
    decoding: Literal["greedy"] = "greedy"
    stop_tokens: tuple[str, ...]
    baseline_stop_rate: float
    """Share of answers that ended by themselves."""
    candidate_stop_rate: float


class Evaluation(Document):
    """Everything measured on the held-out rows, and the verdict."""

    baseline: str
    candidate: str
    num_rows: int
    num_clusters: int
    cluster_by: str
    comparisons: tuple[Comparison, ...]
    generation: Generation | None
    samples: tuple[Sample, ...]
    readiness: tuple[Check, ...]
    seconds: float

    @property
    def verdict(self) -> Literal["ready", "not ready", "cannot say"]:
        """Ready when nothing measured failed and the first comparison improved."""
        if any(check.passed is False for check in self.readiness):
            return "not ready"
        improved = any(comparison.verdict == "improved" for comparison in self.comparisons)
        return "ready" if improved else "cannot say"
