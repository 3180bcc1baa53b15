"""Compare the tuned model with its base on the held-out rows."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_exe.domain.evaluation import Comparison, Evaluation, Generation, Sample
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.likelihood import RowLikelihoods, measure_likelihoods
from finetune_exe.evaluation.metrics import METRICS
from finetune_exe.evaluation.readiness import assess
from finetune_exe.evaluation.statistics import compare_means, compare_ratios
from finetune_exe.models.generate import Answer, generate
from finetune_exe.models.load import choose_attention, load_base, pick_device, settle_libraries
from finetune_exe.models.merge import merged
from finetune_exe.models.methods import training_method
from finetune_exe.prepared.store import PreparedFolder, SplitData, StoredRow
from finetune_exe.text.encode import encode_prompt, reference_answer
from finetune_exe.text.formats.stored import from_json
from finetune_exe.text.tokenizer import ChatTokenizer

HARMLESS = {"perplexity": 0.01, "bits_per_byte": 0.01, "chrf": 1.0, "rouge_l": 1.0, "exact_match": 1.0}
"""Loss still called harmless: a share of the base's for perplexity, the metric's own unit for the others."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Questions:
    """The rows that are answered by generating."""

    rows: list[int]
    prompts: list[tuple[int, ...]]
    references: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What one model did on the held-out rows."""

    likelihoods: RowLikelihoods
    answers: list[Answer]


def evaluate(
    plan: Plan,
    data: PreparedFolder,
    training: TrainingRun,
    *,
    base: Path,
    run: Path,
    tokenizer: ChatTokenizer,
    progress: Progress = lambda _what, _done, _total: None,
) -> Evaluation:
    """Measure base and tuned model on the test split and compare them in pairs.

    The base is kept as it was for training: in 4 bit for QLoRA, so that what differs is what was learned.

    Args:
        plan: Says which metrics, how many answers and how long.
        data: The prepared dataset.
        training: The run's summary.
        base: Folder of the base model.
        run: Folder of the run.
        tokenizer: The one that rendered the training rows.
        progress: Told how far it is.

    Raises:
        FineTuneError: E01 where the run has no checkpoint.
    """
    started = time.monotonic()
    settle_libraries()
    device = pick_device()
    checkpoint = run / training.checkpoint
    if not checkpoint.is_dir():
        raise FineTuneError(
            "E01",
            what="the run has no checkpoint",
            where=str(checkpoint),
            why="there is no tuned model to compare with the base",
            fix="train again, or restore the folder",
        )
    split = data.split("test")
    rows = split.read_rows()
    questions = _questions(rows, plan, tokenizer)
    dtype, method = plan.precision.base_dtype, plan.method
    makers: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("base model", lambda: load_base(base, method, dtype=dtype, device=device).eval()),
        ("tuned model", lambda: training_method(method).load(checkpoint, base, method, dtype=dtype, device=device)),
    )
    measured = []
    for name, make in makers:
        model = choose_attention(make(), max_length=plan.data.max_length, device=device)
        measured.append(_measure(model, name, plan, split, questions, tokenizer, device=device, progress=progress))
        gc.collect()
    before, after = measured
    clusters = [row.group for row in rows]
    comparisons = (
        *_likelihood_comparisons(plan, before.likelihoods, after.likelihoods, clusters),
        *_answer_comparisons(plan, questions, before.answers, after.answers, clusters),
    )
    generation = _generation(plan, before.answers, after.answers, tokenizer)
    return Evaluation(
        inputs={"plan": plan.digest(), "dataset": data.manifest.digest(), "run": training.digest()},
        baseline=plan.model.name,
        candidate=f"{plan.model.name} + {training.run_name} (step {training.best_step})",
        num_rows=len(rows),
        num_clusters=len(set(clusters)),
        cluster_by=plan.data.group_by or "row",
        comparisons=comparisons,
        generation=generation,
        samples=_samples(plan, rows, questions, before.answers, after.answers),
        readiness=assess(comparisons=comparisons, generation=generation, data=data, tokenizer=tokenizer,
                         base=base, checkpoint=checkpoint),
        seconds=time.monotonic() - started,
    )  # fmt: skip


def _questions(rows: Sequence[StoredRow], plan: Plan, tokenizer: ChatTokenizer) -> _Questions:
    """Choose the rows to answer, spread evenly over the split."""
    wanted = plan.evaluation.max_generations if any(m in METRICS for m in plan.evaluation.metrics) else 0
    found = []
    for row in _spread(len(rows), wanted):
        conversation = from_json(rows[row].conversation)
        prompt, reference = encode_prompt(conversation, tokenizer), reference_answer(conversation)
        if prompt is not None and reference is not None:
            found.append((row, prompt, reference))
    return _Questions(
        rows=[row for row, _, _ in found], prompts=[prompt for _, prompt, _ in found],
        references=[reference for _, _, reference in found],
    )  # fmt: skip


def _spread(count: int, wanted: int) -> list[int]:
    if wanted >= count:
        return list(range(count))
    return [index * count // wanted for index in range(wanted)]


def _measure(
    model: Any,
    name: str,
    plan: Plan,
    split: SplitData,
    questions: _Questions,
    tokenizer: ChatTokenizer,
    *,
    device: str,
    progress: Progress,
) -> _Measured:
    likelihoods = measure_likelihoods(
        model, split, tokenizer, plan.precision, device=device,
        progress=lambda done: progress(f"{name}: likelihood", done, len(split)),
    )  # fmt: skip
    answers = generate(
        merged(model), questions.prompts, tokenizer, max_new_tokens=plan.evaluation.max_new_tokens,
        dtype=plan.precision.base_dtype,
        progress=lambda done: progress(f"{name}: answers", done, len(questions.prompts)),
    )  # fmt: skip
    return _Measured(likelihoods=likelihoods, answers=answers)


def _likelihood_comparisons(
    plan: Plan, before: RowLikelihoods, after: RowLikelihoods, clusters: list[str]
) -> list[Comparison]:
    level, wanted = plan.evaluation.confidence_level, plan.evaluation.metrics
    found = []
    if "perplexity" in wanted:
        found.append(compare_ratios(
            before.learned_nll_R.tolist(), after.learned_nll_R.tolist(), before.learned_tokens_R.tolist(), clusters,
            metric="perplexity", transform="perplexity", margin=HARMLESS["perplexity"], confidence_level=level,
        ))  # fmt: skip
    if "bits_per_byte" in wanted:
        found.append(compare_ratios(
            before.text_nll_R.tolist(), after.text_nll_R.tolist(), before.text_bytes_R.tolist(), clusters,
            metric="bits_per_byte", transform="bits_per_byte", margin=HARMLESS["bits_per_byte"], confidence_level=level,
        ))  # fmt: skip
    return found


def _answer_comparisons(
    plan: Plan, questions: _Questions, before: list[Answer], after: list[Answer], clusters: list[str]
) -> list[Comparison]:
    if not questions.rows:
        return []
    return [
        compare_means(
            METRICS[name].scores([answer.text for answer in before], questions.references),
            METRICS[name].scores([answer.text for answer in after], questions.references),
            [clusters[row] for row in questions.rows],
            metric=name,
            higher_is_better=True,
            margin=HARMLESS[name],
            confidence_level=plan.evaluation.confidence_level,
        )
        for name in plan.evaluation.metrics
        if name in METRICS
    ]


def _generation(plan: Plan, before: list[Answer], after: list[Answer], tokenizer: ChatTokenizer) -> Generation | None:
    if not after:
        return None
    return Generation(
        num_rows=len(after),
        max_new_tokens=plan.evaluation.max_new_tokens,
        stop_tokens=tokenizer.stop_tokens,
        baseline_stop_rate=sum(answer.stopped for answer in before) / len(before),
        candidate_stop_rate=sum(answer.stopped for answer in after) / len(after),
    )


def _samples(
    plan: Plan, rows: Sequence[StoredRow], questions: _Questions, before: list[Answer], after: list[Answer]
) -> tuple[Sample, ...]:
    samples = []
    for position in _spread(len(questions.rows), plan.evaluation.num_samples):
        row = rows[questions.rows[position]]
        turns = [message for message in from_json(row.conversation).messages if message.role == "user"]
        samples.append(Sample(
            row=questions.rows[position],
            source=row.source,
            prompt=turns[-1].content if turns else "",
            reference=questions.references[position],
            baseline=before[position].text,
            candidate=after[position].text,
        ))  # fmt: skip
    return tuple(samples)
