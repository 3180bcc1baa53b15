"""The training loop, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from finetune_exe.domain.events import Emit, RunFinished, RunStopped, StepFinished
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.errors import FineTuneError
from finetune_exe.prepared.store import PreparedFolder
from finetune_exe.training.batches import Step
from finetune_exe.training.course import Course, begin
from finetune_exe.training.memory import memory_faults, peak_memory_bytes
from finetune_exe.training.optimizers import set_learning_rate
from finetune_exe.training.resume import Resumption, resume_command
from finetune_exe.training.schedule import learning_rate
from finetune_exe.training.step import count_tokens


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
    rehearse: bool = True,
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
        rehearse: Try the longest rows, an evaluation and a checkpoint first, and undo it.
        clock: Seconds from a fixed start.

    Returns:
        The summary, its `scores` still empty.

    Raises:
        FineTuneError: T01 where loss or gradient stays not finite; T02, M03, M11, I11, X01 where the plan cannot be
            begun; T11 once it was asked to stop and has saved; T14 where memory is too small; I12, I13 for the disk.
    """
    begun = clock()
    course = begin(plan, data, base=base, run=run, emit=emit, resumption=resumption, rehearse=rehearse, clock=clock)
    ranks, tally, num_steps = course.setup.ranks, course.tally, course.num_steps
    out_of_time = False
    for step, micro_batches in course.remaining(resumption):
        if tally.is_stale:
            break
        if step > tally.steps:
            _make_step(course, step, micro_batches)

        asked = ranks.agree(asked_to_stop())
        out_of_time = ranks.any(max_seconds is not None and clock() - begun > max_seconds)
        last = step == num_steps or out_of_time
        due = step % course.every == 0 or last
        evaluated = not (due and asked)
        if due and evaluated:
            course.evaluate(step)
        if course.save_due(step, evaluated=due and evaluated, last=last):
            course.save(step, evaluated=evaluated)
        asked = asked or ranks.agree(asked_to_stop())
        if asked:
            course.save(step, evaluated=evaluated)
            emit(RunStopped(seconds=course.seconds(), step=step, reason=asked))
            raise _stopped(asked, step, num_steps, run)
        if out_of_time:
            break

    stop: Literal["finished", "early_stopping", "out_of_time"]
    stop = "early_stopping" if tally.is_stale else "out_of_time" if out_of_time else "finished"
    emit(RunFinished(seconds=course.seconds(), stop_reason=stop, best_step=tally.best_step,
                     best_validation_loss=tally.best_loss))  # fmt: skip
    return tally.summary(plan, course.setup, course.checkpoints, inputs=course.inputs,
                         stop_reason=stop, total_seconds=course.seconds())  # fmt: skip


def _make_step(course: Course, step: int, micro_batches: Step) -> None:
    """Learn from the rows of one step, or leave it out where its numbers would destroy the weights."""
    started, setup, plan = course.clock(), course.setup, course.plan
    rate = learning_rate(step, plan.schedule, peak=plan.optimizer.learning_rate, num_steps=course.num_steps)
    set_learning_rate(setup.optimizer, rate)
    setup.ranks.reseed(plan.seed, step)
    attempt = course.guards.attempt(micro_batches, max_norm=plan.optimizer.max_grad_norm)
    if attempt.learned is None or not attempt.is_finite:
        course.skip(step, micro_batches, attempt)
        return
    with memory_faults(f"the move of the weights at step {step}"):
        setup.optimizer.step()
    learned, processed, padded, shared = setup.ranks.totals(*count_tokens(attempt.rows))
    finished = StepFinished(
        seconds=course.seconds(), step=step, num_steps=course.num_steps, epoch=course.epoch(step),
        loss=attempt.learned.loss, learning_rate=rate, gradient_norm=attempt.learned.gradient_norm,
        learned_tokens=round(learned), processed_tokens=round(processed), padded_tokens=round(padded),
        shared_tokens=round(shared),
        step_seconds=course.clock() - started, memory_bytes=peak_memory_bytes(setup.device),
    )  # fmt: skip
    course.count(finished, micro_batches, attempt)


def _stopped(reason: str, step: int, num_steps: int, run: Path) -> FineTuneError:
    return FineTuneError(
        "T11",
        what=f"the run was stopped by {reason} after step {step} of {num_steps}",
        where=f"{run / 'checkpoints' / f'step-{step}'}",
        why="it was asked to; everything up to this step is saved",
        fix=resume_command(run),
    )
