"""The training loop, top to bottom."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from finetune_exe.domain.events import CheckpointSaved, Emit, Evaluated, RunFinished, RunStarted, StepFinished
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import EvaluationPoint, TrainingRun
from finetune_exe.errors import FineTuneError
from finetune_exe.models.forward import batch_of, mean_loss
from finetune_exe.prepared.store import PreparedFolder, SplitData
from finetune_exe.training.batches import Step, count_steps, plan_epoch
from finetune_exe.training.checkpoints import Checkpoints
from finetune_exe.training.memory import start_measuring
from finetune_exe.training.optimizers import set_learning_rate
from finetune_exe.training.schedule import learning_rate
from finetune_exe.training.setup import set_up
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
        clock: Seconds from a fixed start.

    Returns:
        The summary, its `scores` still empty.

    Raises:
        FineTuneError: T01 where loss or gradient is not finite; T02, M03, X01 where the plan cannot be begun.
    """
    started = clock()
    setup = set_up(plan, base)
    start_measuring(setup.device)
    train_split, validation, pad = data.split("train"), data.split("validation"), data.manifest.pad_token_id
    steps_per_epoch = math.ceil(len(train_split) / plan.batch.effective)
    num_steps = count_steps(len(train_split), plan.batch, plan.schedule)
    every = max(1, round(steps_per_epoch / plan.checkpoints.evaluations_per_epoch))
    checkpoints = Checkpoints(run, setup.method, keep_last=plan.checkpoints.keep_last)
    tally = Tally(patience=plan.checkpoints.early_stopping_patience)
    emit(RunStarted(seconds=clock() - started, num_steps=num_steps, num_sequences=len(train_split),
                    num_trainable_parameters=setup.num_trainable_parameters, device=setup.device))  # fmt: skip
    tally.initial_loss = mean_loss(setup.losses, validation, pad_token_id=pad)
    emit(Evaluated(seconds=clock() - started, step=0, epoch=0.0, validation_loss=tally.initial_loss, best=False))

    stop: Literal["finished", "early_stopping", "out_of_time"] = "finished"
    for step, micro_batches in _steps(train_split, plan, num_steps):
        step_started = clock()
        rows = [batch_of(train_split, indices, pad_token_id=pad, device=setup.device) for indices in micro_batches]
        num_learned = sum(batch.num_learned for batch in rows)
        rate = learning_rate(step, plan.schedule, peak=plan.optimizer.learning_rate, num_steps=num_steps)
        set_learning_rate(setup.optimizer, rate)
        loss, norm = learn(setup, rows, max_norm=plan.optimizer.max_grad_norm)
        _refuse_non_finite(loss, norm, step, train_split, micro_batches)
        setup.optimizer.step()
        finished = StepFinished(
            seconds=clock() - started, step=step, num_steps=num_steps, epoch=step / steps_per_epoch, loss=loss,
            learning_rate=rate, gradient_norm=norm, learned_tokens=num_learned,
            processed_tokens=sum(batch.num_tokens for batch in rows),
            padded_tokens=sum(batch.ids_BT.numel() for batch in rows),
            step_seconds=clock() - step_started,
        )  # fmt: skip
        tally.add(finished)
        emit(finished)

        out_of_time = max_seconds is not None and clock() - started > max_seconds
        if step % every == 0 or step == num_steps or out_of_time:
            point = EvaluationPoint(step=step, epoch=step / steps_per_epoch,
                                    validation_loss=mean_loss(setup.losses, validation, pad_token_id=pad))  # fmt: skip
            best = tally.judge(point)
            emit(Evaluated(seconds=clock() - started, step=step, epoch=point.epoch,
                           validation_loss=point.validation_loss, best=best))  # fmt: skip
            saved = checkpoints.save(setup.accelerator.unwrap_model(setup.model), step, best_step=tally.best_step)
            emit(CheckpointSaved(seconds=clock() - started, step=step, path=str(saved.relative_to(run))))
        if tally.is_stale or out_of_time:
            stop = "early_stopping" if tally.is_stale else "out_of_time"
            break

    emit(RunFinished(seconds=clock() - started, stop_reason=stop, best_step=tally.best_step,
                     best_validation_loss=tally.best_loss))  # fmt: skip
    return tally.summary(plan, setup, checkpoints, dataset_digest=data.manifest.digest(), stop_reason=stop,
                         total_seconds=clock() - started)  # fmt: skip


def _steps(split: SplitData, plan: Plan, num_steps: int) -> Iterator[tuple[int, Step]]:
    """Number the steps of as many epochs as it takes."""
    lengths = split.lengths
    epochs = (plan_epoch(lengths, plan.batch, seed=plan.seed, epoch=epoch) for epoch in itertools.count())
    yield from enumerate(itertools.islice(itertools.chain.from_iterable(epochs), num_steps), start=1)


def _refuse_non_finite(loss: float, norm: float, step: int, split: SplitData, micro_batches: Step) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    rows = split.read_rows()
    sources = sorted({rows[split.rows[index]].source for batch in micro_batches for index in batch})
    raise FineTuneError(
        "T01",
        what=f"the loss is {loss} and the gradient norm {norm} at step {step}",
        where=f"rows {', '.join(sources[:8])}" + (f" and {len(sources) - 8} more" if len(sources) > 8 else ""),
        why="a step with such numbers would destroy the weights; the last checkpoint is intact",
        fix="look at those rows; lower optimizer.learning_rate; or --set precision.base_dtype=float32",
    )
