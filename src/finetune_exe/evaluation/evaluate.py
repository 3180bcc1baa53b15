"""Compare the tuned model with its base on the held-out rows, and on what it should not have forgotten."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from finetune_exe.domain.checkpoint import MANIFEST, CheckpointManifest
from finetune_exe.domain.evaluation import Comparison, Evaluation, TaskFigure
from finetune_exe.domain.plan import Dpo, Plan, Qlora
from finetune_exe.domain.run import TrainingRun
from finetune_exe.domain.shipment import Shipment
from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.cache import ResultCache, digest_folder, digest_of
from finetune_exe.evaluation.cautions import cautions, cautions_of_parts
from finetune_exe.evaluation.choosing import label_choices, pair_choices, ranking, sureness
from finetune_exe.evaluation.collapse import collapse_card
from finetune_exe.evaluation.comparisons import (
    answer_comparisons,
    likelihood_comparisons,
    suite_results,
    task_comparisons,
    task_figures,
    task_scores,
)
from finetune_exe.evaluation.figures import generation_of, memorisation_of, perplexities_of, samples_of
from finetune_exe.evaluation.forgetting import forgetting_card
from finetune_exe.evaluation.item_files import write_items
from finetune_exe.evaluation.measure import Asked, LazyModel, Measured, measure
from finetune_exe.evaluation.questions import Questions, choose_questions
from finetune_exe.evaluation.readiness import Evidence, assess
from finetune_exe.evaluation.suites import Suite
from finetune_exe.evaluation.tasks.answered import TaskScores
from finetune_exe.models.load import choose_attention, load_base, pick_device, settle_libraries, settle_threads
from finetune_exe.models.methods import training_method
from finetune_exe.prepared.store import PreparedFolder
from finetune_exe.text.tokenizer import ChatTokenizer

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


def evaluate(
    plan: Plan,
    data: PreparedFolder,
    training: TrainingRun,
    *,
    base: Path,
    run: Path,
    tokenizer: ChatTokenizer,
    suites: Sequence[Suite] = (),
    answer_within: float | None = None,
    cache: Path | None = None,
    progress: Progress = lambda _what, _done, _total: None,
    note: Callable[[str], None] = lambda _what: None,
) -> Evaluation:
    """Measure base and tuned model on the test split and compare them in pairs.

    The base is kept as it was for training: in 4 bit for QLoRA, so that what differs is what was learned. Items go to
    `evaluation/base.jsonl` and `evaluation/tuned.jsonl` of the run, with scores and answers, for `fine-tune compare`.

    Args:
        plan: Says which metrics, how many answers and how long.
        data: The prepared dataset.
        training: The run's summary.
        base: Folder of the base model.
        run: Folder of the run.
        tokenizer: The one that rendered the training rows.
        suites: Regression suites.
        answer_within: Seconds of an answer that are quick enough; None where nobody said.
        cache: Folder of what was measured before; None measures everything anew.
        progress: Told how far it is.
        note: Told what takes long.

    Raises:
        FineTuneError: E01 where the run has no checkpoint.
    """
    started = time.monotonic()
    settle_threads()
    checkpoint = require_checkpoint(run, training)
    weights, of_base = digest_folder(checkpoint), digest_folder(base)
    split = data.split("test")
    rows = split.read_rows()
    questions = choose_questions(rows, plan, tokenizer)
    asked = _asked(plan, data, questions, tokenizer, suites)
    before, after = _measure_both(asked, (base, of_base), (checkpoint, weights), cache, progress, note)
    found = _compare(asked, questions, before, after, [row.group for row in rows])
    generation = generation_of(plan, before.answers, after.answers, tokenizer)
    results = suite_results(suites, before, after, plan.evaluation.confidence_level)
    collapse = collapse_card(questions.said(before.answers), questions.said(after.answers), questions.references)
    forgetting = None if after.moved is None else forgetting_card(*after.moved)
    memorisation = memorisation_of(before, after)
    write_items(run, rows, questions, suites, before, after, found.scores)
    evidence = Evidence(
        plan=plan, training=training, comparisons=found.comparisons, task=found.task, generation=generation,
        suites=results, forgetting=forgetting, collapse=collapse, memorisation=memorisation, merge=after.merge,
        leanings=(before.leanings, after.leanings), seconds_per_answer=after.seconds_per_answer, weights=weights,
        answer_within=answer_within, shipments=_shipments(run), data=data, tokenizer=tokenizer, base=base,
        checkpoint=checkpoint, run=run, known=ResultCache(folder=cache, model=digest_of(of_base, weights)),
    )  # fmt: skip
    return Evaluation(
        inputs=_inputs(plan, asked, training) | {"weights": weights, "base": of_base},
        baseline=plan.model.name,
        candidate=f"{plan.model.name} + {training.run_name} (step {training.best_step})",
        num_rows=len(rows),
        num_clusters=len({row.group for row in rows}),
        cluster_by=plan.data.group_by or "row",
        comparisons=found.comparisons,
        generation=generation,
        samples=samples_of(plan, rows, questions, before.answers, after.answers),
        readiness=assess(evidence),
        seconds=time.monotonic() - started,
        perplexities=perplexities_of(plan, split.lengths, rows, before.likelihoods, after.likelihoods),
        task_comparisons=found.task,
        comparison_notes=(*found.notes, *cautions_of_parts(results)),
        task_figures=found.figures,
        task_notes=() if found.scores is None else tuple(f"tuned: {note}" for note in found.scores[1].notes),
        suites=results,
        forgetting=forgetting,
        collapse=collapse,
        memorisation=memorisation,
    )


def _inputs(plan: Plan, asked: Asked, training: TrainingRun) -> dict[str, str]:
    """Give the digests of what was trained, and by what."""
    return {"plan": plan.digest(), "dataset": asked.dataset, "run": training.digest()}


def _asked(
    plan: Plan, data: PreparedFolder, questions: Questions, tokenizer: ChatTokenizer, suites: Sequence[Suite]
) -> Asked:
    """Gather what both models are asked."""
    split = data.split("test")
    return Asked(
        plan=plan, dataset=data.manifest.digest(), test=split, train=data.split("train"), prompts=questions.prompts,
        tokenizer=tokenizer, suites=tuple(suites), device=pick_device(),
        labels=label_choices(plan, questions, tokenizer), pairs=pair_choices(split),
    )  # fmt: skip


class _Compared(NamedTuple):
    """What held-out rows say of base and tuned model in pairs."""

    comparisons: tuple[Comparison, ...]
    """By the plan's metrics."""
    task: tuple[Comparison, ...]
    """By the metrics of the kind of task."""
    figures: tuple[TaskFigure, ...]
    scores: tuple[TaskScores, TaskScores] | None

    @property
    def notes(self) -> tuple[str, ...]:
        """Say each thing once."""
        return tuple(dict.fromkeys(note for found in (*self.comparisons, *self.task) for note in cautions(found)))


def _compare(asked: Asked, questions: Questions, before: Measured, after: Measured, clusters: list[str]) -> _Compared:
    """Compare likelihoods, answers, the sureness of labels and the ranking of pairs."""
    plan = asked.plan
    level = plan.evaluation.confidence_level
    scores = task_scores(plan, questions, before.answers, after.answers)
    sure, sure_figures = sureness(asked.labels, before.label_logs, after.label_logs, clusters, level=level)
    beta = plan.objective.beta if isinstance(plan.objective, Dpo) else 0.0
    ranked, ranked_figures = ranking(asked.pairs, before.pair_logs, after.pair_logs, clusters, beta=beta, level=level)
    return _Compared(
        comparisons=(
            *likelihood_comparisons(plan, before.likelihoods, after.likelihoods, clusters),
            *answer_comparisons(plan, questions, before.answers, after.answers, clusters),
        ),
        task=(*task_comparisons(plan, scores, [clusters[row] for row in questions.rows]), *sure, *ranked),
        figures=(*task_figures(scores), *sure_figures, *ranked_figures),
        scores=scores,
    )


def require_checkpoint(run: Path, training: TrainingRun) -> Path:
    """Find the folder of what was learned.

    Raises:
        FineTuneError: E01 where it is gone or damaged.
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
    damaged = _damaged(checkpoint)
    if damaged:
        raise FineTuneError(
            "E01",
            what="the checkpoint is damaged",
            where=str(checkpoint),
            why=f"not there, or no whole safetensors: {', '.join(damaged)}",
            fix="restore the folder, or train again",
        )
    return checkpoint


def _damaged(checkpoint: Path) -> list[str]:
    """Name the files that are missing of what was saved, and those of weights that cannot be opened."""
    weights = sorted(checkpoint.glob("*.safetensors"))
    damaged = [file.name for file in weights if not _opens(file)]
    with suppress(FineTuneError):
        saved = [file.name for file in CheckpointManifest.read(checkpoint / MANIFEST).files if "/" not in file.name]
        damaged += [name for name in saved if not (checkpoint / name).is_file()]
    return damaged if weights or damaged else ["*.safetensors"]


def _opens(file: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):
            return True
    except SafetensorError:
        return False


def _shipments(run: Path) -> tuple[Shipment, ...]:
    """Read what was exported of a run to its own folder; a record of another version says nothing."""
    found = []
    for path in sorted(run.glob("export/*/export.json")):
        with suppress(FineTuneError):
            found.append(Shipment.read(path))
    return tuple(found)


def _measure_both(
    asked: Asked,
    of_base: tuple[Path, str],
    of_tuned: tuple[Path, str],
    cache: Path | None,
    progress: Progress,
    note: Callable[[str], None],
) -> tuple[Measured, Measured]:
    """Measure base and tuned model one after the other, so that one is in memory at a time.

    Args:
        asked: What is measured.
        of_base: The base's folder and its digest.
        of_tuned: Those of what was learned.
        cache: Folder of what was measured before.
        progress: Told how far it is.
        note: Told which model is loaded; neither is where all is known.
    """
    (base, base_digest), (checkpoint, weights) = of_base, of_tuned
    plan, device = asked.plan, asked.device
    dtype, method = plan.precision.base_dtype, plan.method

    def load_untuned() -> Any:
        settle_libraries()
        note("loading the base model")
        return choose_attention(load_base(base, method, dtype=dtype, device=device).eval())

    def load_tuned() -> Any:
        settle_libraries()
        note("loading the tuned model")
        return choose_attention(training_method(method).load(checkpoint, base, method, dtype=dtype, device=device))

    kept = (method.quantization, method.double_quantization) if isinstance(method, Qlora) else None
    named = digest_of(base_digest, device, kept)
    lazy = LazyModel(make=load_untuned)
    before = measure(lazy, "base model", asked, ResultCache(folder=cache, model=named), base=None, progress=progress)
    lazy.loaded = lazy.joined = None
    gc.collect()
    results = ResultCache(folder=cache, model=digest_of(named, weights))
    return before, measure(LazyModel(make=load_tuned), "tuned model", asked, results, base=before, progress=progress)
