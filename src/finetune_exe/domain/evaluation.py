"""Whether the tuned model is better, by how much, and how sure that is."""

from __future__ import annotations

from typing import Literal

from finetune_exe.domain.document import Document, Value
from finetune_exe.domain.values import Check

Verdict = Literal["improved", "non_inferior", "regressed", "inconclusive"]
CARD_POINT = "model card complete"
"""Point of the readiness list that a model's card answers by being there."""
GAIN_POINT = "better than the base model on held-out rows"
"""Point of the readiness list that says whether the task is done better."""


FEWEST_FOR_VERDICT = 4
"""Clusters below which test and interval are shown and nothing is concluded.

One odd cluster is then a third of all there is to know."""


class WeighedDown(Value):
    """Clusters so large that they would decide alone, and for how much the test counts them."""

    clusters: tuple[str, ...]
    held: float
    """Share of all items, or of all tokens or bytes, that is theirs."""
    counted: float
    """Share that test and interval count them for."""
    difference: float
    """The difference, so counted."""


class Comparison(Value):
    """A paired comparison of two models on the same items."""

    metric: str
    higher_is_better: bool
    baseline: float
    """Scores of answers lie between 0 and 1; perplexity, bits per byte and scores from elsewhere have other scales."""
    candidate: float
    difference: float
    """candidate - baseline, on the same scale."""
    standard_error: float | None
    """Of the difference, corrected for clusters; None where there are fewer than two clusters."""
    ci_low: float | None
    ci_high: float | None
    confidence_level: float = 0.95
    """Of the interval; 1 minus this is the test's level."""
    p_value: float | None
    test: str
    n: int
    """Items compared."""
    clusters: int
    minimum_detectable_difference: float | None
    """Smallest true difference, in the direction seen, that this many items find four times in five."""
    verdict: Verdict
    margin: float
    """Loss that would still be called harmless."""
    relative: float | None = None
    """difference / baseline, where that says more."""
    relative_ci_low: float | None = None
    relative_ci_high: float | None = None
    weighed_down: WeighedDown | None = None
    """None where each cluster counts for what it holds."""

    @property
    def gain(self) -> float:
        """What the candidate is better by; negative where it is worse."""
        return self.difference if self.higher_is_better else -self.difference

    @property
    def better_enough(self) -> bool:
        """Whether it is better beyond chance, and by no less than what would be a harmless loss."""
        return self.verdict == "improved" and self.gain >= self.margin


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
    baseline_loop_rate: float | None = None
    """Share of answers that end in a loop."""
    candidate_loop_rate: float | None = None
    baseline_tokens: float | None = None
    """Mean tokens of an answer."""
    candidate_tokens: float | None = None


class WindowPolicy(Value):
    """How documents were cut for a model."""

    context: int
    """Tokens the model was given at most."""
    stride: int
    """New tokens of each further window."""
    begins_with_bos: bool
    """Whether a beginning-of-text token was put first, so that the first token too is predicted."""


class Perplexity(Value):
    """How well one model predicts some documents, in every unit."""

    policy: WindowPolicy
    num_documents: int
    num_tokens: int
    num_words: int
    """Pieces between white space."""
    num_bytes: int
    token_perplexity: float
    word_perplexity: float
    bits_per_byte: float


class TaskFigure(Value):
    """A figure of all answers together, without an interval of its own."""

    name: str
    baseline: float
    candidate: float


class SuiteResult(Value):
    """A regression suite under both models."""

    name: str
    kind: Literal["multiple_choice", "continuation", "answer", "text"]
    digest: str
    """Of the items asked."""
    comparison: Comparison
    p_adjusted: float | None
    """The p value after Holm's correction for the number of suites."""
    verdict: Verdict


class ForgettingCard(Value):
    """How far the tuned model has moved from its base."""

    num_prompt_tokens: int
    divergence: float
    """Mean Kullback-Leibler divergence from base to tuned on the task's own prompts, in nats a token."""
    divergence_p99: float
    top1_agreement: float
    """Share of positions where both think the same token likeliest."""
    num_generic_tokens: int
    generic_divergence: float
    """The same on generic text, which has nothing to do with the task."""
    generic_cross_entropy: float
    """Of the tuned model against the base's predictions on generic text, in nats a token."""
    generic_entropy: float
    """Of the base's predictions there: what the cross-entropy would be without any change."""


class CollapseCard(Value):
    """Signs that answers repeat themselves or each other, at answers cut to the same length."""

    num_answers: int
    compression_baseline: float
    """Bytes of all answers over their compressed bytes: the more they repeat, the higher."""
    compression_candidate: float
    compression_reference: float
    self_bleu_baseline: float
    self_bleu_candidate: float
    self_bleu_reference: float
    distinct_baseline: float
    """Share of runs of three words that occur once."""
    distinct_candidate: float
    distinct_reference: float
    loop_rate_baseline: float
    """Share of answers that end in a loop."""
    loop_rate_candidate: float
    same_start_candidate: float
    """Share of answers with the most frequent first five words."""
    same_start_reference: float
    collapsed: bool
    reasons: tuple[str, ...]


class Canary(Value):
    """A planted secret: how easily the tuned model gives it away."""

    name: str
    rank: int
    """Its place by likelihood among the candidates; 1 is the likeliest."""
    num_candidates: int
    exposure_bits: float
    """log2 of the candidates less log2 of the rank."""
    copies: int = 0
    """Training rows it was planted in; 0 for one that was not planted."""
    rank_baseline: int | None = None
    """Its rank under the base model, which never saw it."""


class Memorisation(Value):
    """Whether training rows come back word for word."""

    num_rows: int
    extracted_train: float
    """Share of training rows whose ending the tuned model writes out from their beginning."""
    extracted_held_out: float
    """The same of rows it has not seen: what is merely easy to guess."""
    extracted_baseline: float
    """The same of training rows under the base model."""
    p_value: float | None
    """Of no more extraction than under the base model, one-sided and exact."""
    p_held_out: float | None = None
    """Of no more extraction than of rows held out, one-sided and exact; None where there were none."""
    suffix_tokens: int
    canaries: tuple[Canary, ...] = ()
    num_personal: int = 0
    """Training rows with personal data whose ending was asked for."""
    extracted_personal: float | None = None
    """Share of these in which the tuned model writes the personal data out; None without such rows."""
    extracted_personal_baseline: float | None = None


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
    perplexities: tuple[Perplexity, ...] = ()
    """Of the test rows' whole texts, base first."""
    task_comparisons: tuple[Comparison, ...] = ()
    """Metrics of the kind of task, by answer."""
    comparison_notes: tuple[str, ...] = ()
    """What a reader of the comparisons must know."""
    task_figures: tuple[TaskFigure, ...] = ()
    task_notes: tuple[str, ...] = ()
    suites: tuple[SuiteResult, ...] = ()
    forgetting: ForgettingCard | None = None
    collapse: CollapseCard | None = None
    memorisation: Memorisation | None = None

    @property
    def readiness_share(self) -> float | None:
        """Share of the decided points of the readiness list that passed; None where all are open."""
        decided = [check.passed for check in self.readiness if check.passed is not None]
        return sum(decided) / len(decided) if decided else None

    @property
    def verdict(self) -> Literal["ready", "not ready", "cannot say"]:
        """Ready when no point failed and the task is done better, by no less than the margin."""
        if any(check.passed is False for check in self.readiness):
            return "not ready"
        if any(check.name == GAIN_POINT and check.passed is None for check in self.readiness):
            return "cannot say"
        return "ready" if any(c.better_enough for c in (*self.comparisons, *self.task_comparisons)) else "cannot say"
