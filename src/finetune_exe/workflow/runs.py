"""From a plan to a prepared dataset, a trained model and its evaluation, all in one folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from finetune_exe.atomic import io_faults, new_folder, write_file
from finetune_exe.domain.dataset import PreparedDataset
from finetune_exe.domain.evaluation import Evaluation
from finetune_exe.domain.events import AnyEvent, Emit
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.plan_yaml import write_plan
from finetune_exe.domain.run import Score, TrainingRun
from finetune_exe.domain.values import Hardware
from finetune_exe.workflow.event_log import event_log
from finetune_exe.workflow.ledger import append_to_ledger, ledger_path
from finetune_exe.workflow.preparing import (
    Note,
    Progress,
    plan_tokenizer,
    prepare_dataset,
    require_data,
    require_frozen_rows,
)
from finetune_exe.workflow.run_folder import RunFolder, open_run
from finetune_exe.workflow.run_lock import locked
from finetune_exe.workflow.signals import stop_on_signals
from finetune_exe.workflow.watching import Watcher

LEAST_STEPS_MADE = 0.2
"""Share of the planned steps that a run must have made for its duration to be held against the plan's."""

if TYPE_CHECKING:
    from finetune_exe.training.resume import Resumption


def train_plan(
    plan: Plan,
    path: Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    allowed_changes: Collection[str] = (),
    max_seconds: float | None = None,
    emit: Emit,
    progress: Progress,
    note: Note,
    prepared: Callable[[PreparedDataset], None] = lambda _: None,
) -> TrainingRun:
    """Prepare the data, train, and leave a complete run folder.

    A fault before the first event leaves everything as it was; a later one leaves the events and the checkpoints.

    Args:
        plan: What to do.
        path: The run's folder.
        overwrite: Replace a run that is there.
        resume: Go on with a run that is there, from its newest checkpoint; begin where there is none.
        allowed_changes: Options by which the user allowed what changed since.
        max_seconds: Stop training in good order after so long; None never does.
        emit: Receives every event of the training.
        progress: Told how far the preparation is.
        note: Told what takes long.
        prepared: Shown the dataset before training begins.

    Raises:
        FineTuneError: O01 where the folder exists, O02 where another process trains into it; T11 where it was asked to
            stop and has saved; T12, T13 where it cannot go on; whatever preparation and training raise.
    """
    from finetune_exe.training.preflight import check_trainable
    from finetune_exe.workflow.resuming import finished_summary, run_exists

    check_trainable(plan)
    require_data(plan)
    run = RunFolder(path)
    with locked(path, note):
        if _settle_replaced(path):
            note(f"a process was killed before it had replaced the run in {path}: that run is back")
        if path.exists() and not overwrite and not resume:
            raise run_exists(path, resumable=run.events.is_file() and not finished_summary(run.summary))
        finished = finished_summary(run.summary) if resume else None
        if finished:
            note(f"the run in {path} is finished; there is nothing left to do")
            return finished
        if resume and path.exists():
            with io_faults(path):
                summary = _go_on(plan, run, flags=allowed_changes, max_seconds=max_seconds, emit=emit,
                                 progress=progress, note=note, prepared=prepared)  # fmt: skip
        else:
            if resume:
                note(f"there is no run in {path} to go on with; it begins")
            with _emptied(path), io_faults(path):
                path.mkdir(parents=True)
                write_plan(plan, run.plan)
                prepared(prepare_dataset(plan, run.dataset, progress=progress, note=note))
                summary = _train_into(run, plan, resumption=None, max_seconds=max_seconds, emit=emit, note=note)
    if summary.scores:
        append_to_ledger(ledger_path(), plan, summary, day=date.today().isoformat())
    return summary


def _go_on(
    plan: Plan,
    run: RunFolder,
    *,
    flags: Collection[str],
    max_seconds: float | None,
    emit: Emit,
    progress: Progress,
    note: Note,
    prepared: Callable[[PreparedDataset], None],
) -> TrainingRun:
    """Go on with the run in a folder, on the rows as they were prepared."""
    from finetune_exe.models.locate import model_folder
    from finetune_exe.prepared.store import MANIFEST, load_dataset
    from finetune_exe.training.checkpoints import remove_unfinished
    from finetune_exe.workflow.resuming import take_up

    remove_unfinished(run.path)
    if not (run.dataset / MANIFEST).is_file():
        prepare_dataset(plan, run.dataset, progress=progress, note=note)
    data = load_dataset(run.dataset)
    require_frozen_rows(plan, data.manifest, run.dataset)
    prepared(data.manifest)
    base = model_folder(plan.model.reference, revision=plan.model.revision, progress=note)
    resumption = take_up(plan, data, plan_tokenizer(plan, note=note), base=base, run=run.path, flags=flags)
    if resumption is None:
        note("the run saved no checkpoint yet; it begins again")
        run.events.unlink(missing_ok=True)
    write_plan(plan, run.plan)
    for left in (run.summary, run.evaluation, run.report):
        left.unlink(missing_ok=True)
    shutil.rmtree(run.model, ignore_errors=True)
    return _train_into(run, plan, resumption=resumption, max_seconds=max_seconds, emit=emit, note=note)


def _train_into(
    run: RunFolder, plan: Plan, *, resumption: Resumption | None, max_seconds: float | None, emit: Emit, note: Note
) -> TrainingRun:
    """Train on the run's prepared rows, and put the best checkpoint and the summary beside them."""
    from finetune_exe.models.locate import model_folder
    from finetune_exe.prepared.store import load_dataset
    from finetune_exe.training.loop import train
    from finetune_exe.training.rehearsal import expected_cost, require_room

    cost = expected_cost(plan)
    if cost:
        there = len(list(run.path.glob("checkpoints/step-*")))
        require_room(cost, run=run.path, keep_last=plan.checkpoints.keep_last, there=there)
    base = model_folder(plan.model.reference, revision=plan.model.revision, progress=note)
    machine = _machine_here(plan)
    foreign = machine.processor != plan.hardware.processor
    if foreign:
        note(trained_elsewhere(plan.hardware, machine))
    note("loading the model")
    with event_log(run.events, note) as log, stop_on_signals(note) as asked_to_stop:

        def record(event: AnyEvent) -> None:
            log(event)
            emit(event)

        summary = train(
            plan, load_dataset(run.dataset), base=base, run=run.path, emit=Watcher(run.path, record),
            max_seconds=max_seconds, resumption=resumption, asked_to_stop=asked_to_stop,
        )  # fmt: skip
    publish_model(run.path / summary.checkpoint, run.model)
    scores = () if foreign else score_predictions(plan, summary)
    summary = summary.model_copy(update={"hardware": machine, "scores": scores})
    summary.write(run.summary)
    write_report(run.path)
    return summary


def _machine_here(plan: Plan) -> Hardware:
    """Describe what a run is made on: the GPUs of the plan where this machine has any, otherwise this machine."""
    from finetune_exe.workflow.plans import find_hardware

    here = find_hardware(None)
    return plan.hardware if plan.hardware.gpus and here.gpus else here


def trained_elsewhere(planned: Hardware, machine: Hardware) -> str:
    """Say that a run is not made on what its plan is for, and how a GPU is left alone that the plan does without."""
    words = (
        f"the plan is for {planned.processor}, and this machine trains on {machine.processor}: its predictions are not "
        "scored"
    )
    if machine.gpus and not planned.gpus:
        words += '; CUDA_VISIBLE_DEVICES="" in front of the command leaves it to the processor'
    return words


def publish_model(checkpoint: Path, model: Path) -> None:
    """Copy what other programs load out of a checkpoint, in one piece."""
    from finetune_exe.domain.checkpoint import MANIFEST
    from finetune_exe.training.state import FOLDER

    with new_folder(model) as work:
        shutil.copytree(checkpoint, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns(FOLDER, MANIFEST))


def evaluate_run(
    path: Path,
    *,
    settings: Plan | None = None,
    suites: Path | None = None,
    suite_items: int = 100,
    tasks: Sequence[str] = (),
    task_folder: Path | None = None,
    answer_within: float | None = None,
    progress: Progress,
    note: Note,
) -> Evaluation:
    """Evaluate a finished run on its test rows and write `evaluation.json` and `evaluation.html`.

    What was measured before of the same models on the same rows is not measured again.

    Args:
        path: The run's folder.
        settings: A plan whose evaluation settings replace the run's own; None uses the run's plan.
        suites: Folder of regression suites; None runs none.
        suite_items: Items taken of each suite.
        tasks: Tasks of lm-evaluation-harness, asked as suites.
        task_folder: Of tasks of one's own.
        answer_within: Seconds of an answer that are quick enough.
        progress: Told how far it is.
        note: Told what takes long.

    Raises:
        FineTuneError: E01 where this is no finished run, E05 where a suite cannot be used; D05 where its dataset is
            not the one it was trained on, D09 where its test rows are not those that the plan names.
    """
    from finetune_exe.evaluation.artefacts import is_other_base
    from finetune_exe.evaluation.evaluate import evaluate, require_checkpoint
    from finetune_exe.evaluation.suites import read_suites
    from finetune_exe.models.locate import cache_folder, model_folder
    from finetune_exe.prepared.store import damaged, load_dataset
    from finetune_exe.report.html.evaluation import evaluation_page
    from finetune_exe.text.tokenizer import load_tokenizer

    run = RunFolder(path)
    plan, summary = open_run(path)
    plan = settings or plan
    data = load_dataset(run.dataset)
    require_frozen_rows(plan, data.manifest, run.dataset)
    if not data.manifest.is_named(summary.inputs.get("dataset")):
        raise damaged(run.dataset, "it is not the one that the run was trained on, so its test rows may be others")
    base = model_folder(plan.model.reference, revision=plan.model.revision, progress=note)
    if is_other_base(base, summary, require_checkpoint(path, summary)):
        note("the base model is not the one that this run was trained on: it will not be found ready")
    asked, left_out = read_suites(suites, max_items=suite_items) if suites is not None else ([], [])
    if tasks:
        from finetune_exe.evaluation.harness import harness_suites

        more, without = harness_suites(tasks, folder=task_folder, max_items=suite_items)
        asked, left_out = asked + more, left_out + without
    for reason in left_out:
        note(f"left out {reason}")
    evaluation = evaluate(
        plan,
        data,
        summary,
        base=base,
        run=path,
        tokenizer=load_tokenizer(base, chat_template=plan.data.chat_template),
        suites=asked,
        answer_within=answer_within,
        cache=cache_folder() / "results",
        progress=progress,
        note=note,
    )
    evaluation.write(run.evaluation)
    write_file(run.evaluation.with_suffix(".html"), evaluation_page(evaluation))
    write_report(path)
    return evaluation


def write_report(path: Path) -> None:
    """Write `report.md` from the documents of a run folder."""
    from finetune_exe.report.dataset import render_dataset_markdown
    from finetune_exe.report.evaluation import render_evaluation_markdown
    from finetune_exe.report.run import render_run_markdown
    from finetune_exe.workflow.reports import show_plan

    run = RunFolder(path)
    plan, summary = open_run(path)
    parts = [
        show_plan(plan, run.plan, run=path, markdown=True, explain=True),
        render_dataset_markdown(PreparedDataset.read(run.dataset / "manifest.json")),
        render_run_markdown(summary),
    ]
    if run.evaluation.is_file():
        parts.append(render_evaluation_markdown(Evaluation.read(run.evaluation)))
    write_file(run.report, "\n".join(parts).encode())


def score_predictions(plan: Plan, run: TrainingRun) -> tuple[Score, ...]:
    """Hold the plan's predictions against what the run measured.

    Duration is of the whole run, loading and evaluations included; where a run stopped early it is reckoned from the
    steps it made, unless they are so few that loading is most of their time.
    """
    measured = {
        "memory": float(run.peak_memory_bytes),
        "speed": run.processed_tokens / run.seconds if run.seconds else 0.0,
    }
    if run.num_steps >= LEAST_STEPS_MADE * run.planned_steps:
        measured["duration"] = run.total_seconds * run.planned_steps / max(1, run.num_steps)
    return tuple(
        Score(
            name=name,
            unit=estimate.unit,
            predicted=estimate.value,
            measured=measured[name],
            inside=estimate.value.contains(measured[name]),
        )
        for name, estimate in plan.estimates.items()
        if name in measured
    )


@contextmanager
def _emptied(path: Path) -> Iterator[None]:
    """Set an existing folder aside while the block runs; put it back where the block fails before its first event."""
    if path.exists():
        path.rename(_aside(path))
    try:
        yield
    except BaseException:
        if not _has_begun(path):
            shutil.rmtree(path, ignore_errors=True)
        raise
    finally:
        _settle_replaced(path)


def _settle_replaced(path: Path) -> bool:
    """Remove a run that was set aside where the one in its place has begun; else put it back, and say so."""
    aside = _aside(path)
    if not aside.exists():
        return False
    if _has_begun(path):
        shutil.rmtree(aside, ignore_errors=True)
        return False
    shutil.rmtree(path, ignore_errors=True)
    aside.rename(path)
    return True


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")


def _has_begun(path: Path) -> bool:
    events = RunFolder(path).events
    return events.is_file() and events.stat().st_size > 0
