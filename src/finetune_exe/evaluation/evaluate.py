"""Compare the tuned model with its base on the held-out rows, and on what it should not have forgotten."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_exe.atomic import write_file
from finetune_exe.domain.evaluation import (
    CollapseCard,
    Comparison,
    Evaluation,
    Generation,
    Memorisation,
    Perplexity,
    Sample,
    SuiteResult,
    TaskFigure,
    WindowPolicy,
)
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.cache import ResultCache, digest_folder, digest_of
from finetune_exe.evaluation.collapse import collapse_card, loops_at_end
from finetune_exe.evaluation.compare import adjusted_verdict
from finetune_exe.evaluation.forgetting import forgetting_card
from finetune_exe.evaluation.likelihood import RowLikelihoods
from finetune_exe.evaluation.measure import Asked, LazyModel, Measured, measure
from finetune_exe.evaluation.memorisation import memorisation_card
from finetune_exe.evaluation.metrics import METRICS
from finetune_exe.evaluation.multiplicity import holm
from finetune_exe.evaluation.perplexity import DocumentLoss, perplexity_of
from finetune_exe.evaluation.readiness import Evidence, assess
from finetune_exe.evaluation.statistics import compare_means, compare_ratios
from finetune_exe.evaluation.suites import Suite
from finetune_exe.evaluation.tasks import metrics_for
from finetune_exe.evaluation.tasks.answered import Answered, TaskScores
from finetune_exe.models.generate import Answer
from finetune_exe.models.load import choose_attention, load_base, pick_device, settle_libraries
from finetune_exe.models.methods import training_method
from finetune_exe.prepared.store import PreparedFolder, StoredRow
from finetune_exe.text.conversation import Conversation
from finetune_exe.text.encode import encode_prompt, reference_answer
from finetune_exe.text.formats.stored import from_json
from finetune_exe.text.tokenizer import ChatTokenizer

HARMLESS = {"perplexity": 0.01, "bits_per_byte": 0.01, "chrf": 1.0, "rouge_l": 1.0, "exact_match": 1.0}
"""Loss still called harmless: a share of the base's for perplexity, the metric's own unit for the others."""
TASK_MARGIN = 0.01
SUITE_MARGIN = 0.02
"""Loss of two items in a hundred that is still called harmless; of texts, in bits per byte."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Questions:
    """The rows that are answered by generating."""

    rows: list[int]
    prompts: list[tuple[int, ...]]
    references: list[str]
    conversations: list[Conversation]

    def answered(self, answers: Sequence[Answer]) -> list[Answered]:
        """Put answers beside what was asked and wanted."""
        return [
            Answered(prompt=_last_question(row), answer=answer.text, reference=reference, columns=row.extra)
            for row, answer, reference in zip(self.conversations, answers, self.references, strict=True)
        ]


def evaluate(
    plan: Plan,
    data: PreparedFolder,
    training: TrainingRun,
    *,
    base: Path,
    run: Path,
    tokenizer: ChatTokenizer,
    suites: Sequence[Suite] = (),
    cache: Path | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> Evaluation:
    """Measure base and tuned model on the test split and compare them in pairs.

    The base is kept as it was for training: in 4 bit for QLoRA, so that what differs is what was learned. Scores and
    answers of each item are written to `evaluation/base.jsonl` and `evaluation/tuned.jsonl` of the run, for
    `fine-tune compare`.

    Args:
        plan: Says which metrics, how many answers and how long.
        data: The prepared dataset.
        training: The run's summary.
        base: Folder of the base model.
        run: Folder of the run.
        tokenizer: The one that rendered the training rows.
        suites: Regression suites.
        cache: Folder of what was measured before; None measures everything anew.
        progress: Told how far it is.

    Raises:
        FineTuneError: E01 where the run has no checkpoint.
    """
    started = time.monotonic()
    settle_libraries()
    device = pick_device()
    checkpoint = _checkpoint(run, training)
    split = data.split("test")
    rows = split.read_rows()
    questions = _questions(rows, plan, tokenizer)
    asked = Asked(
        plan=plan, dataset=data.manifest.digest(), test=split, train=data.split("train"), prompts=questions.prompts,
        tokenizer=tokenizer, suites=tuple(suites), device=device,
    )  # fmt: skip
    before, after = _measure_both(asked, base, checkpoint, cache, progress)
    clusters = [row.group for row in rows]
    comparisons = (
        *_likelihood_comparisons(plan, before.likelihoods, after.likelihoods, clusters),
        *_answer_comparisons(plan, questions, before.answers, after.answers, clusters),
    )
    scores = _task_scores(plan, questions, before.answers, after.answers)
    task = _task_comparisons(plan, scores, [clusters[row] for row in questions.rows])
    generation = _generation(plan, before.answers, after.answers, tokenizer)
    results = _suite_results(suites, before, after, plan.evaluation.confidence_level)
    collapse = _collapse(questions, before.answers, after.answers)
    forgetting = None if after.moved is None else forgetting_card(*after.moved)
    memorisation = _memorisation(before, after)
    _write_items(run, rows, questions, suites, before, after, scores)
    evidence = Evidence(
        plan=plan, training=training, comparisons=comparisons, task=task, generation=generation, suites=results,
        forgetting=forgetting, collapse=collapse, memorisation=memorisation, merge=after.merge,
        leanings=(before.leanings, after.leanings), seconds_per_answer=after.seconds_per_answer,
        data=data, tokenizer=tokenizer, base=base, checkpoint=checkpoint, run=run,
    )  # fmt: skip
    return Evaluation(
        inputs={
            "plan": plan.digest(),
            "dataset": data.manifest.digest(),
            "run": training.digest(),
            "weights": digest_folder(checkpoint),
        },
        baseline=plan.model.name,
        candidate=f"{plan.model.name} + {training.run_name} (step {training.best_step})",
        num_rows=len(rows),
        num_clusters=len(set(clusters)),
        cluster_by=plan.data.group_by or "row",
        comparisons=comparisons,
        generation=generation,
        samples=_samples(plan, rows, questions, before.answers, after.answers),
        readiness=assess(evidence),
        seconds=time.monotonic() - started,
        perplexities=_perplexities(plan, split.lengths, rows, before.likelihoods, after.likelihoods),
        task_comparisons=task,
        task_figures=_task_figures(scores),
        task_notes=() if scores is None else tuple(f"tuned: {note}" for note in scores[1].notes),
        suites=results,
        forgetting=forgetting,
        collapse=collapse,
        memorisation=memorisation,
    )


def _checkpoint(run: Path, training: TrainingRun) -> Path:
    """Find the folder of what was learned.

    Raises:
        FineTuneError: E01 where it is gone.
    """
    checkpoint = run / training.checkpoint
    if not checkpoint.is_dir():
        raise FineTuneError(
            "E01",
            what="the run has no checkpoint",
            where=str(checkpoint),
            why="there is no tuned model to compare with the base",
            fix="train again, or restore the folder",
        )
    return checkpoint


def _measure_both(
    asked: Asked, base: Path, checkpoint: Path, cache: Path | None, progress: Progress
) -> tuple[Measured, Measured]:
    """Measure base and tuned model one after the other, so that one is in memory at a time."""
    plan, device = asked.plan, asked.device
    dtype, method = plan.precision.base_dtype, plan.method

    def ready(model: Any) -> Any:
        return choose_attention(model, device=device)

    named = digest_of(digest_folder(base), device, getattr(method, "double_quantization", None))
    lazy = LazyModel(make=lambda: ready(load_base(base, method, dtype=dtype, device=device).eval()))
    before = measure(lazy, "base model", asked, ResultCache(folder=cache, model=named), base=None, progress=progress)
    lazy.loaded = lazy.joined = None
    gc.collect()
    tuned = LazyModel(
        make=lambda: ready(training_method(method).load(checkpoint, base, method, dtype=dtype, device=device))
    )
    results = ResultCache(folder=cache, model=digest_of(named, digest_folder(checkpoint)))
    return before, measure(tuned, "tuned model", asked, results, base=before, progress=progress)


def _questions(rows: Sequence[StoredRow], plan: Plan, tokenizer: ChatTokenizer) -> _Questions:
    """Choose the rows to answer, spread evenly over the split."""
    wanted = plan.evaluation.max_generations if any(m in METRICS for m in plan.evaluation.metrics) else 0
    found = []
    for row in _spread(len(rows), wanted):
        conversation = from_json(rows[row].conversation)
        prompt, reference = encode_prompt(conversation, tokenizer), reference_answer(conversation)
        if prompt is not None and reference is not None:
            found.append((row, prompt, reference, conversation))
    return _Questions(
        rows=[row for row, _, _, _ in found], prompts=[prompt for _, prompt, _, _ in found],
        references=[reference for _, _, reference, _ in found],
        conversations=[conversation for _, _, _, conversation in found],
    )  # fmt: skip


def _last_question(conversation: Conversation) -> str:
    turns = [message for message in conversation.messages if message.role == "user"]
    return turns[-1].content if turns else ""


def _spread(count: int, wanted: int) -> list[int]:
    if wanted >= count:
        return list(range(count))
    return [index * count // wanted for index in range(wanted)]


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
        baseline_loop_rate=sum(loops_at_end(answer.text) for answer in before) / len(before),
        candidate_loop_rate=sum(loops_at_end(answer.text) for answer in after) / len(after),
        baseline_tokens=sum(answer.num_tokens for answer in before) / len(before),
        candidate_tokens=sum(answer.num_tokens for answer in after) / len(after),
    )


def _samples(
    plan: Plan, rows: Sequence[StoredRow], questions: _Questions, before: list[Answer], after: list[Answer]
) -> tuple[Sample, ...]:
    samples = []
    for position in _spread(len(questions.rows), plan.evaluation.num_samples):
        row = rows[questions.rows[position]]
        samples.append(Sample(
            row=questions.rows[position],
            source=row.source,
            prompt=_last_question(questions.conversations[position]),
            reference=questions.references[position],
            baseline=before[position].text,
            candidate=after[position].text,
        ))  # fmt: skip
    return tuple(samples)


def _perplexities(
    plan: Plan, lengths: Sequence[int], rows: Sequence[StoredRow], before: RowLikelihoods, after: RowLikelihoods
) -> tuple[Perplexity, ...]:
    """Give the figures of the whole texts of the test rows, as the template renders them; each fits into one window."""
    policy = WindowPolicy(context=plan.data.max_length, stride=plan.data.max_length, begins_with_bos=False)
    words = [sum(len(m.content.split()) for m in from_json(row.conversation).messages) for row in rows]
    tokens = sum(lengths) - len(lengths)
    found = []
    for side in (before, after):
        losses = [
            DocumentLoss(nll=float(nll), num_tokens=0, num_words=count, num_bytes=int(size))
            for nll, count, size in zip(side.text_nll_R, words, side.text_bytes_R, strict=True)
        ]
        first = DocumentLoss(nll=0.0, num_tokens=tokens, num_words=0, num_bytes=0)
        figures = perplexity_of([first, *losses], policy)
        if figures is None:
            return ()
        found.append(figures.model_copy(update={"num_documents": len(rows)}))
    return tuple(found)


def _task_scores(
    plan: Plan, questions: _Questions, before: list[Answer], after: list[Answer]
) -> tuple[TaskScores, TaskScores] | None:
    metrics = metrics_for(plan.task.type, questions.references) if questions.rows else None
    if metrics is None:
        return None
    return metrics.score(questions.answered(before)), metrics.score(questions.answered(after))


def _task_comparisons(
    plan: Plan, scores: tuple[TaskScores, TaskScores] | None, clusters: list[str]
) -> tuple[Comparison, ...]:
    if scores is None:
        return ()
    return tuple(
        compare_means(
            before, scores[1].items[name], clusters, metric=name, higher_is_better=True, margin=TASK_MARGIN,
            confidence_level=plan.evaluation.confidence_level,
        )
        for name, before in scores[0].items.items()
        if name not in plan.evaluation.metrics
    )  # fmt: skip


def _task_figures(scores: tuple[TaskScores, TaskScores] | None) -> tuple[TaskFigure, ...]:
    if scores is None:
        return ()
    before, after = scores[0].figures, scores[1].figures
    return tuple(
        TaskFigure(name=name, baseline=before[name], candidate=after[name]) for name in before if name in after
    )


def _suite_results(suites: Sequence[Suite], before: Measured, after: Measured, level: float) -> tuple[SuiteResult, ...]:
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
            verdict=adjusted_verdict(comparison, p, level=1 - level),
        )
        for suite, comparison, p in zip(suites, found, adjusted, strict=True)
    )  # fmt: skip


def _collapse(questions: _Questions, before: list[Answer], after: list[Answer]) -> CollapseCard | None:
    return collapse_card([a.text for a in before], [a.text for a in after], questions.references)


def _memorisation(before: Measured, after: Measured) -> Memorisation | None:
    return memorisation_card(
        train=after.extracted_train, train_under_base=before.extracted_train, held_out=after.extracted_held_out
    )


def _write_items(
    run: Path,
    rows: Sequence[StoredRow],
    questions: _Questions,
    suites: Sequence[Suite],
    before: Measured,
    after: Measured,
    scores: tuple[TaskScores, TaskScores] | None,
) -> None:
    """Write what each model did on each item, for `fine-tune compare`."""
    for number, (name, side) in enumerate((("base", before), ("tuned", after))):
        lines: list[dict[str, Any]] = []
        if scores is not None:
            main, values = next(iter(scores[number].items.items()))
            lines += [
                {"item": f"{main}/{row}", "suite": main, "score": score, "cluster": rows[row].group,
                 "length": len(answer.text), "prompt": _last_question(conversation), "answer": answer.text,
                 "reference": reference}
                for row, score, answer, conversation, reference in zip(
                    questions.rows, values, side.answers, questions.conversations, questions.references, strict=True
                )
            ]  # fmt: skip
        for suite in suites:
            lines += [
                {"item": f"{suite.name}/{item.name}", "suite": suite.name, "score": score,
                 "cluster": f"{suite.name}/{item.cluster}", "prompt": item.contexts[0],
                 "reference": item.continuations[item.gold] if item.gold < len(item.continuations) else ""}
                for item, score in zip(suite.items, side.suites[suite.name], strict=True)
            ]  # fmt: skip
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        if lines:
            write_file(run / "evaluation" / f"{name}.jsonl", content.encode())
