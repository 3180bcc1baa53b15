"""Search better settings for a plan by training it again and again, and write the plan that came of it."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finetune_exe.atomic import io_faults, new_folder, write_file
from finetune_exe.cluster import ray_cluster
from finetune_exe.domain.events import AnyEvent, Evaluated, RunStarted, StepFinished, encode_event
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.plan_yaml import read_plan, write_plan
from finetune_exe.domain.tuning import StudyDesign, Trial, Tuning
from finetune_exe.domain.values import Decision, Leaf
from finetune_exe.errors import FineTuneError
from finetune_exe.tuning.budget import bound_budget
from finetune_exe.tuning.search import LocalWorker, Workers, search
from finetune_exe.tuning.space import search_space, with_values
from finetune_exe.tuning.trials import RUNGS, Job, Outcome, Report, TrialStore, require_search_packages
from finetune_exe.tuning.verdict import conclude, tuned_plan
from finetune_exe.units import format_gib, format_number
from finetune_exe.workflow.plans import edit_plan
from finetune_exe.workflow.preparing import Note, Progress, prepare_dataset
from finetune_exe.workflow.run_folder import RunFolder

Place = Literal["local", "ray"]
DEFAULT_TRIALS = 12


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """Where the parts of a study lie; the folder alone is enough to go on with it."""

    path: Path

    @property
    def plan(self) -> Path:
        """The plan that is tuned."""
        return self.path / "plan.yaml"

    @property
    def design(self) -> Path:
        """What is searched; its presence means that the study began."""
        return self.path / "study.json"

    @property
    def dataset(self) -> Path:
        """The prepared dataset of all trials."""
        return self.path / "dataset"

    @property
    def result(self) -> Path:
        """The Tuning document."""
        return self.path / "tuning.json"

    @property
    def tuned(self) -> Path:
        """The plan with the advised values."""
        return self.path / "tuned.yaml"

    @property
    def report(self) -> Path:
        """The result to read, as Markdown."""
        return self.path / "report.md"

    def trial(self, number: int) -> RunFolder:
        """Plan, events and summary of a trial; its weights are not kept."""
        return RunFolder(self.path / "trials" / str(number))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the user asked of a study; None leaves it to the plan, or to the study that is resumed."""

    over: tuple[str, ...] = ()
    num_trials: int | None = None
    seconds: float | None = None
    share: float | None = None
    place: Place = "local"
    num_workers: int = 2
    """Trials at once, where the place is Ray."""


class _StoppedError(Exception):
    """Leaves the training loop before its end, with what the trial came to."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


def tune(
    plan: Plan, path: Path, wishes: Wishes, *, resume: bool = False, overwrite: bool = False,
    progress: Progress, note: Note,
) -> Tuning:  # fmt: skip
    """Train a plan with values out of its own intervals, and keep what is better beyond chance.

    Args:
        plan: What is tuned; its first trial is the plan itself.
        path: The study's folder.
        wishes: What to search and how long.
        resume: Go on with the study in the folder.
        overwrite: Replace a study that is there.
        progress: Told how far a trial is.
        note: Told what takes long, and what each trial came to.

    Raises:
        FineTuneError: O01 where the folder exists; C12, C14 for wishes that cannot be met; C13 where there is nothing
            to resume or it is of another plan; S01 where the plan itself could not be trained; T02, X01 where it cannot
            be trained here; whatever preparation and training raise.
    """
    from finetune_exe.models.locate import model_folder
    from finetune_exe.training.preflight import check_trainable

    check_trainable(plan)
    require_search_packages()
    study = StudyFolder(path)
    base = model_folder(plan.model.reference, revision=plan.model.revision, progress=note)
    if resume:
        design = _resumed(plan, study, wishes)
    else:
        design = _designed(plan, wishes, note)
        with new_folder(path, overwrite=overwrite) as work:
            prepare_dataset(plan, StudyFolder(work).dataset, progress=progress, note=note)
            write_plan(plan, StudyFolder(work).plan)
            design.write(StudyFolder(work).design)
    with io_faults(path):
        store = TrialStore(path, design.settings, seed=plan.seed)
        runner = TrialRunner(study=path.resolve(), base=base.resolve(), share=design.share)
        with _workers(wishes, plan, runner, progress) as workers:
            search(store, workers, design, seconds=wishes.seconds, told=lambda trial: note(_told(trial)))
        tuning = conclude(design, store.trials, name=str(path), importance=store.importance())
        tuning.write(study.result)
        write_plan(edit_plan(tuned_plan(plan, tuning), []), study.tuned)
        _write_report(study, tuning, note)
    return tuning


def _designed(plan: Plan, wishes: Wishes, note: Note) -> StudyDesign:
    wanted = wishes.num_trials or DEFAULT_TRIALS
    budget = bound_budget(plan, num_trials=wanted, seconds=wishes.seconds, share=wishes.share)
    settings = search_space(plan, over=wishes.over, num_trials=budget.num_trials, share=budget.share)
    note(f"budget: {budget.words}")
    for setting in settings:
        low, high, value = (format_number(number) for number in (setting.low, setting.high, setting.planned))
        note(f"searching {setting.path} from {low} to {high}; the plan has {value}")
    return StudyDesign(
        inputs={"plan": plan.digest()}, settings=settings, num_trials=budget.num_trials, share=budget.share
    )


def _resumed(plan: Plan, study: StudyFolder, wishes: Wishes) -> StudyDesign:
    """Take the design of a study that began; only the number of trials may change.

    Raises:
        FineTuneError: C13 where there is none, or it was of other settings.
    """
    if not study.design.is_file():
        raise _no_resumption(study.path, "there is no study here", "leave --resume out to begin one")
    design = StudyDesign.read(study.design)
    began = {path: value for path, value, _ in read_plan(study.plan).settings()}
    changed = [path for path, value, _ in plan.settings() if value != began.get(path)]
    if changed:
        raise _no_resumption(study.path, f"the plan has changed since: {', '.join(changed)}", "begin a new one")
    searched = {setting.path for setting in design.settings}
    if (wishes.over and set(wishes.over) != searched) or wishes.share not in (None, design.share):
        what = f"it searches {', '.join(sorted(searched))} with {100 * design.share:.0f} % of the steps"
        raise _no_resumption(study.path, what, "leave --over and --share out, or begin a new one")
    if wishes.num_trials not in (None, design.num_trials):
        design = design.model_copy(update={"num_trials": wishes.num_trials})
        design.write(study.design)
    return design


def _no_resumption(path: Path, what: str, fix: str) -> FineTuneError:
    return FineTuneError(
        "C13",
        what=f"the study cannot go on: {what}",
        where=str(path),
        why="trials can be compared only where they differ in nothing but the searched settings",
        fix=f"{fix} (--study FOLDER)",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRunner:
    """Trains one trial of a study; it can be sent to another process that sees the same folders."""

    study: Path
    base: Path
    share: float

    def __call__(self, job: Job, report: Report, progress: Progress | None = None) -> Outcome:
        """Train the study's plan with the job's values.

        Memory that runs out and numbers that are not finite end the trial, not the study: they are its result.

        Raises:
            FineTuneError: What would stop every trial.
        """
        from finetune_exe.prepared.store import load_dataset
        from finetune_exe.training.loop import train
        from finetune_exe.training.memory import is_out_of_memory

        study = StudyFolder(self.study)
        run = study.trial(job.number)
        plan = _trial_plan(read_plan(study.plan), job, share=self.share, study=self.study)
        shutil.rmtree(run.path, ignore_errors=True)
        write_plan(plan, run.plan)
        too_large = _needs_more_memory(plan)
        if too_large is not None:
            return Outcome(state="pruned", reason=too_large)
        observer = _Observer(job=job, report=report, progress=progress, events=run.events)
        started = time.monotonic()
        try:
            summary = train(
                plan,
                load_dataset(study.dataset, verify=False),
                base=self.base,
                run=run.path,
                emit=observer,
                rehearse=False,
            )
        except _StoppedError as stop:
            return stop.outcome
        except FineTuneError as fault:
            if fault.code not in ("T01", "T14"):
                raise
            return observer.ended("pruned", fault.what, seconds=time.monotonic() - started)
        except (MemoryError, RuntimeError) as fault:
            if not is_out_of_memory(fault):
                raise
            return observer.ended("pruned", "out of memory", seconds=time.monotonic() - started)
        finally:
            shutil.rmtree(run.path / "checkpoints", ignore_errors=True)
            gc.collect()
        summary.write(run.summary)
        return Outcome(
            state="finished",
            loss=summary.best_validation_loss,
            progress=summary.num_steps / summary.planned_steps,
            seconds=summary.total_seconds,
        )


class _Observer:
    """Writes a trial's events down, and leaves the loop where the trial shall go no further."""

    def __init__(self, *, job: Job, report: Report, progress: Progress | None, events: Path) -> None:
        self._job = job
        self._report = report
        self._progress = progress
        self._events = events
        self._num_steps = 1
        self._step = 0
        self._lowest = float("inf")

    def __call__(self, event: AnyEvent) -> None:
        with self._events.open("ab") as file:
            file.write(encode_event(event) + b"\n")
        match event:
            case RunStarted():
                self._num_steps = event.num_steps
            case StepFinished():
                self._step = event.step
                if self._progress is not None:
                    self._progress(f"trial {self._job.number}", event.step, event.num_steps)
                if self._job.max_seconds is not None and event.seconds > self._job.max_seconds:
                    raise _StoppedError(self.ended("failed", "the time was up", seconds=event.seconds))
            case Evaluated(step=step) if step:
                self._judge(event)
            case _:
                pass

    def _judge(self, event: Evaluated) -> None:
        self._lowest = min(self._lowest, event.validation_loss)
        if not event.validation_loss < float("inf"):
            reason = f"the validation loss is {event.validation_loss} at step {event.step}"
            raise _StoppedError(self.ended("pruned", reason, seconds=event.seconds))
        rung = RUNGS * event.step // self._num_steps
        if rung and self._report(rung, self._lowest):
            reason = f"validation loss {self._lowest:.4f} was above the median of the others at step {event.step}"
            raise _StoppedError(self.ended("pruned", reason, seconds=event.seconds))

    def ended(self, state: Literal["pruned", "failed"], reason: str, *, seconds: float) -> Outcome:
        """Say what a trial came to that did not reach its end."""
        return Outcome(state=state, progress=self._step / self._num_steps, seconds=seconds, reason=reason)


def _trial_plan(plan: Plan, job: Job, *, share: float, study: Path) -> Plan:
    """Give the plan of one trial: its values, its seed and its share of the steps, each with where it comes from."""
    current = {path: value for path, value, _ in plan.settings()}
    values: dict[str, Leaf] = {
        path: int(value) if isinstance(current[path], int) else value for path, value in job.values.items()
    }
    if job.second_seed:
        values["seed"] = plan.seed + 1
    if share < 1:
        values["schedule.epochs"] = share * plan.schedule.epochs
        if plan.schedule.max_steps is not None:
            values["schedule.max_steps"] = max(1, round(share * plan.schedule.max_steps))
    values["checkpoints.keep_last"] = 1
    source = f"trial {job.number} of {study.name}"
    decisions = {
        path: Decision(value=value, reason="as this trial has it", source=source, confidence="low")
        for path, value in values.items()
    }
    return edit_plan(with_values(plan, values, decisions), [])


def _needs_more_memory(plan: Plan) -> str | None:
    """Say why a plan cannot fit, where even the lower bound of its estimate is more than there is."""
    memory, there = plan.estimates.get("memory"), plan.hardware.accelerator_memory_bytes
    if memory is None or memory.value.low <= there:
        return None
    return f"not run: it needs {format_gib(memory.value.low)} or more, and there are {format_gib(there)}"


@contextmanager
def _workers(wishes: Wishes, plan: Plan, runner: TrialRunner, progress: Progress) -> Iterator[Workers]:
    if wishes.place == "local":
        yield LocalWorker(lambda job, report: runner(job, report, progress))
        return
    from finetune_exe.tuning.ray_workers import RayWorkers

    with ray_cluster(needed_for="searching on a cluster"):
        yield RayWorkers(runner, num_workers=wishes.num_workers, with_gpu=bool(plan.hardware.gpus))


def _told(trial: Trial) -> str:
    what = {"plan": ", the plan as it stands", "repeat": ", the plan with a second seed",
            "search": "", "confirm": ", the best with the second seed"}[trial.role]  # fmt: skip
    values = ", ".join(f"{path.rpartition('.')[2]} {format_number(value)}" for path, value in trial.values.items())
    came_to = f"validation loss {trial.loss:.4f}" if trial.loss is not None else f"{trial.state}: {trial.reason}"
    return f"trial {trial.number} ({values}{what}): {came_to}"


def _write_report(study: StudyFolder, tuning: Tuning, note: Note) -> None:
    from finetune_exe.report.tuning import render_tuning_markdown
    from finetune_exe.report.tuning_plots import plot_tuning

    plots = plot_tuning(tuning, study.path)
    if not plots:
        note('no plots: they need matplotlib; pip install "finetune-exe[tune]"')
    text = render_tuning_markdown(tuning) + "".join(f"\n![{path.stem}]({path.name})\n" for path in plots)
    write_file(study.report, text.encode())
