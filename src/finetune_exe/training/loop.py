"""The training loop, top to bottom."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finetune_exe.domain.checkpoint import CheckpointManifest, DataCursor
from finetune_exe.domain.events import (
    CheckpointSaved,
    Emit,
    Evaluated,
    Noticed,
    RunFinished,
    RunResumed,
    RunStarted,
    RunStopped,
    StepFinished,
)
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import EvaluationPoint, TrainingRun
from finetune_exe.errors import FineTuneError
from finetune_exe.models.forward import batch_of, mean_loss
from finetune_exe.prepared.store import PreparedFolder, SplitData
from finetune_exe.training.batches import Step, count_steps, plan_epoch
from finetune_exe.training.checkpoints import Checkpoints
from finetune_exe.training.guards import Guards
from finetune_exe.training.memory import start_measuring
from finetune_exe.training.optimizers import set_learning_rate
from finetune_exe.training.resume import (
    Resumption,
    fingerprint,
    resume_command,
    verified_best,
    version_changes,
)
from finetune_exe.training.schedule import learning_rate
from finetune_exe.training.setup import Setup, set_up, versions
from finetune_exe.training.state import FOLDER, restore_state
from finetune_exe.training.step import learn
from finetune_exe.training.tally import Tally


def train(
    plan: Plan,
    data: PreparedFolder,
    *,
    base: Path,
    run: Path,
    emit: Emit,
    max_seconds: float | None = None,
    resumption: Resumption | None = None,
    asked_to_stop: Callable[[], str | None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingRun:
    """Fine-tune the plan's model on prepared data.

    The loss of a step is the sum over its learned tokens divided by their number, over all micro-batches together,
    so that it does not depend on how the rows are split. The checkpoint with the lowest validation loss is kept.

    Args:
        plan: What to do.
        data: The prepared dataset; its train split is learned, its validation split chooses the checkpoint.
        base: Folder of the base model.
        run: Folder of the run; checkpoints go below it.
        emit: Receives every event.
        max_seconds: Stop in good order after so long; None never does.
        resumption: Where to go on; None begins.
        asked_to_stop: Gives the name of the signal that asked the run to save and leave, or None.
        clock: Seconds from a fixed start.

    Returns:
        The summary, its `scores` still empty.

    Raises:
        FineTuneError: T01 where loss or gradient stays not finite; T02, M03, X01 where the plan cannot be begun; T11
            once it was asked to stop and has saved.
    """
    begun = clock()
    course = _begin(plan, data, base=base, run=run, emit=emit, resumption=resumption, clock=clock)
    setup, tally, guards, num_steps = course.setup, course.tally, course.guards, course.num_steps
    out_of_time = False
    for step, micro_batches in course.remaining(resumption):
        if tally.is_stale:
            break
        if step > tally.steps:
            step_started = clock()
            rows = [batch_of(course.train_split, indices, pad_token_id=course.pad, device=setup.device,
                             packing=plan.batch.packing) for indices in micro_batches]  # fmt: skip
            rate = learning_rate(step, plan.schedule, peak=plan.optimizer.learning_rate, num_steps=num_steps)
            set_learning_rate(setup.optimizer, rate)
            loss, norm = learn(setup, rows, max_norm=plan.optimizer.max_grad_norm)
            guards.refuse_non_finite(loss, norm, step, micro_batches)
            setup.optimizer.step()
            finished = StepFinished(
                seconds=course.seconds(), step=step, num_steps=num_steps, epoch=course.epoch(step), loss=loss,
                learning_rate=rate, gradient_norm=norm, learned_tokens=sum(batch.num_learned for batch in rows),
                processed_tokens=sum(batch.num_tokens for batch in rows),
                padded_tokens=sum(batch.ids_BT.numel() for batch in rows),
                step_seconds=clock() - step_started,
            )  # fmt: skip
            tally.add(finished)
            emit(finished)

        asked = asked_to_stop()
        out_of_time = max_seconds is not None and clock() - begun > max_seconds
        due = step % course.every == 0 or step == num_steps or out_of_time
        if due and not asked:
            course.evaluate(step)
        if (due or asked or course.save_due(step)) and step not in course.checkpoints.steps:
            course.save(step, evaluated=not (due and asked))
        if asked:
            emit(RunStopped(seconds=course.seconds(), step=step, reason=asked))
            raise _stopped(asked, step, num_steps, run)
        if out_of_time:
            break

    stop: Literal["finished", "early_stopping", "out_of_time"]
    stop = "early_stopping" if tally.is_stale else "out_of_time" if out_of_time else "finished"
    emit(RunFinished(seconds=course.seconds(), stop_reason=stop, best_step=tally.best_step,
                     best_validation_loss=tally.best_loss))  # fmt: skip
    return tally.summary(plan, setup, course.checkpoints, dataset_digest=data.manifest.digest(), stop_reason=stop,
                         total_seconds=course.seconds())  # fmt: skip


@dataclass(slots=True, kw_only=True)
class _Course:
    """A run under way: what its steps share, and what is done between them."""

    plan: Plan
    setup: Setup
    train_split: SplitData
    validation: SplitData
    pad: int
    inputs: dict[str, str]
    num_steps: int
    steps_per_epoch: int
    every: int
    """Steps between evaluations."""
    checkpoints: Checkpoints
    tally: Tally
    guards: Guards
    emit: Emit
    clock: Callable[[], float]
    started: float
    """The clock at the beginning of the run, as if it had never been interrupted."""
    saved_at: tuple[int, float]
    """Step and time of the last checkpoint."""

    def seconds(self) -> float:
        """Give the time since the beginning of the run."""
        return self.clock() - self.started

    def epoch(self, step: int) -> float:
        """Give the epochs done after a step."""
        return step / self.steps_per_epoch

    def remaining(self, resumption: Resumption | None) -> Iterator[tuple[int, Step]]:
        """Number the steps to make; first the one already made whose evaluation is still due, where there is one."""
        pending = resumption is not None and not resumption.checkpoint.manifest.evaluated
        yield from itertools.islice(self._all_steps(), self.tally.steps - pending, None)

    def _all_steps(self) -> Iterator[tuple[int, Step]]:
        """Number the steps of as many epochs as it takes."""
        lengths = self.train_split.lengths
        epochs = (plan_epoch(lengths, self.plan.batch, seed=self.plan.seed, epoch=epoch) for epoch in itertools.count())
        yield from enumerate(itertools.islice(itertools.chain.from_iterable(epochs), self.num_steps), start=1)

    def evaluate(self, step: int) -> None:
        """Measure the validation loss."""
        loss = mean_loss(self.setup.losses, self.validation, pad_token_id=self.pad)
        point = EvaluationPoint(step=step, epoch=self.epoch(step), validation_loss=loss)
        best = self.tally.judge(point)
        self.emit(Evaluated(seconds=self.seconds(), step=step, epoch=point.epoch,
                            validation_loss=loss, best=best))  # fmt: skip

    def save_due(self, step: int) -> bool:
        """Say whether the plan wants a checkpoint here, besides those at evaluations."""
        return False

    def save(self, step: int, *, evaluated: bool) -> None:
        """Write a checkpoint."""
        import torch

        manifest = CheckpointManifest(
            inputs=self.inputs, step=step, evaluated=evaluated, parent=None, files=(),
            cursor=DataCursor(epoch=step // self.steps_per_epoch, step_of_epoch=step % self.steps_per_epoch,
                              micro_batch_size=self.plan.batch.micro_batch_size),
            settings={path: value for path, value, _ in self.plan.settings()},
            versions=versions(self.plan), num_threads=torch.get_num_threads(),
            progress=self.tally.progress(total_seconds=self.seconds(), device=self.setup.device),
        )  # fmt: skip
        saved = self.checkpoints.save(self.setup, manifest, best_step=self.tally.best_step)
        self.saved_at = step, self.clock()
        path = saved.relative_to(self.checkpoints.folder.parent)
        self.emit(CheckpointSaved(seconds=self.seconds(), step=step, path=str(path)))


def _begin(
    plan: Plan,
    data: PreparedFolder,
    *,
    base: Path,
    run: Path,
    emit: Emit,
    resumption: Resumption | None,
    clock: Callable[[], float],
) -> _Course:
    """Load the model and bring the run to the step it starts from: the first, or the one it was interrupted after."""
    started = clock()
    setup = set_up(plan, base)
    start_measuring(setup.device)
    train_split = data.split("train")
    steps_per_epoch = math.ceil(len(train_split) / plan.batch.effective)
    patience, found = plan.checkpoints.early_stopping_patience, resumption.found if resumption else None
    course = _Course(
        plan=plan, setup=setup, train_split=train_split, validation=data.split("validation"),
        pad=data.manifest.pad_token_id,
        inputs={"plan": plan.digest(), "dataset": data.manifest.digest(), "base": fingerprint(base)},
        num_steps=count_steps(len(train_split), plan.batch, plan.schedule), steps_per_epoch=steps_per_epoch,
        every=max(1, round(steps_per_epoch / plan.checkpoints.evaluations_per_epoch)),
        checkpoints=Checkpoints(run, keep_last=plan.checkpoints.keep_last, found=found),
        tally=Tally(patience=patience), guards=Guards(train_split), emit=emit, clock=clock, started=started,
        saved_at=(0, started),
    )  # fmt: skip
    if resumption is None:
        emit(RunStarted(seconds=course.seconds(), num_steps=course.num_steps, num_sequences=len(train_split),
                        num_trainable_parameters=setup.num_trainable_parameters, device=setup.device))  # fmt: skip
        loss = mean_loss(setup.losses, course.validation, pad_token_id=course.pad)
        course.tally.initial_loss = loss
        emit(Evaluated(seconds=course.seconds(), step=0, epoch=0.0, validation_loss=loss, best=False))
    else:
        _take_up(course, resumption, run)
    return course


def _take_up(course: _Course, resumption: Resumption, run: Path) -> None:
    """Bring a course to the state of the checkpoint it goes on from."""
    import torch

    path, manifest = resumption.checkpoint
    progress = manifest.progress
    tally = course.tally = Tally.of(progress, patience=course.tally.patience)
    course.started -= progress.total_seconds
    tally.resumed += 1
    tally.lost_seconds += resumption.lost_seconds
    course.emit(RunResumed(
        seconds=course.seconds(), step=manifest.step, num_steps=course.num_steps, device=course.setup.device,
        checkpoint=str(path.relative_to(run)), lost_seconds=resumption.lost_seconds,
    ))  # fmt: skip

    def remark(message: str) -> None:
        tally.remarks.append(message)
        course.emit(Noticed(seconds=course.seconds(), message=message))

    other = version_changes(manifest, versions(course.plan), torch.get_num_threads())
    for message in (*resumption.remarks, *(f"{change}: the last digits may differ" for change in other)):
        remark(message)
    tally.best_step, best = verified_best(resumption, remark)
    tally.best_loss = math.inf if best is None else best
    restore_state(course.setup, path / FOLDER)


def _stopped(reason: str, step: int, num_steps: int, run: Path) -> FineTuneError:
    return FineTuneError(
        "T11",
        what=f"the run was stopped by {reason} after step {step} of {num_steps}",
        where=f"{run / 'checkpoints' / f'step-{step}'}",
        why="it was asked to; everything up to this step is saved",
        fix=resume_command(run),
    )
