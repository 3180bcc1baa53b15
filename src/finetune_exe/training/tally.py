"""What a run has come to so far, when it stops getting better, and its summary in the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from finetune_exe.domain.checkpoint import Progress
from finetune_exe.domain.events import StepFinished
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import EvaluationPoint, TrainingRun
from finetune_exe.training.checkpoints import Checkpoints
from finetune_exe.training.memory import peak_memory_bytes
from finetune_exe.training.setup import Setup, versions

KEPT_LOSSES = 20
"""Losses kept to tell a spike by."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """Sums over the steps, and the best evaluation."""

    patience: int | None
    """Evaluations without improvement after which the run is stale; None never is."""
    initial_loss: float = math.nan
    """Validation loss before the first step."""
    steps: int = 0
    planned_steps: int = 0
    epochs: float = 0.0
    learned_tokens: int = 0
    processed_tokens: int = 0
    padded_tokens: int = 0
    shared_tokens: int = 0
    step_seconds: float = 0.0
    last_loss: float = math.nan
    recent_losses: list[float] = field(default_factory=list)
    points: list[EvaluationPoint] = field(default_factory=list)
    best_step: int = 0
    best_loss: float = math.inf
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    returns: int = 0
    empty_passes: int = 0
    resumed: int = 0
    lost_seconds: float = 0.0
    peak_memory_bytes: int = 0
    remarks: list[str] = field(default_factory=list)

    def add(self, step: StepFinished) -> None:
        """Count a finished step."""
        self.steps, self.planned_steps, self.epochs = step.step, step.num_steps, step.epoch
        self.learned_tokens += step.learned_tokens
        self.processed_tokens += step.processed_tokens
        self.padded_tokens += step.padded_tokens
        self.shared_tokens += step.shared_tokens
        self.step_seconds += step.step_seconds
        self.last_loss = step.loss
        self.recent_losses = [*self.recent_losses, step.loss][-KEPT_LOSSES:]
        self.skipped_in_a_row = 0

    def skip(self, step: int, *, num_steps: int, epoch: float, harmful: bool) -> None:
        """Count a step that was not made; `harmful` where its numbers would have destroyed the weights."""
        self.steps, self.planned_steps, self.epochs = step, num_steps, epoch
        self.skipped_steps += 1
        self.skipped_in_a_row += harmful

    def go_back(self, to: Progress) -> None:
        """Count the steps since a checkpoint as not made, for the weights are as they were then."""
        self.returns += 1
        self.skipped_steps = to.skipped_steps + self.steps - to.steps
        self.recent_losses = list(to.recent_losses)
        self.remarks.append(
            f"step {self.steps}: the loss rose to {self.last_loss:.3f}; the weights went back to those of step "
            f"{to.steps}, and the rows of the steps since are left out"
        )

    def judge(self, point: EvaluationPoint) -> bool:
        """Note an evaluation and say whether it is the best so far."""
        self.points.append(point)
        better = point.validation_loss < self.best_loss
        if better:
            self.best_step, self.best_loss = point.step, point.validation_loss
        return better

    @property
    def is_stale(self) -> bool:
        """Whether the last `patience` evaluations brought nothing better.

        Where the checkpoint of the best one was lost, the next evaluation is the best so far.
        """
        since = sum(point.step > self.best_step for point in self.points)
        return self.patience is not None and bool(self.best_step) and since >= self.patience

    def progress(self, *, total_seconds: float, device: str) -> Progress:
        """Write the sums down for a checkpoint."""
        return Progress(
            steps=self.steps,
            planned_steps=self.planned_steps,
            epochs=self.epochs,
            initial_loss=_finite(self.initial_loss),
            learned_tokens=self.learned_tokens,
            processed_tokens=self.processed_tokens,
            padded_tokens=self.padded_tokens,
            shared_tokens=self.shared_tokens,
            step_seconds=self.step_seconds,
            total_seconds=total_seconds,
            lost_seconds=self.lost_seconds,
            last_loss=_finite(self.last_loss),
            recent_losses=tuple(self.recent_losses),
            points=tuple(self.points),
            best_step=self.best_step,
            best_loss=_finite(self.best_loss),
            skipped_steps=self.skipped_steps,
            skipped_in_a_row=self.skipped_in_a_row,
            returns=self.returns,
            empty_passes=self.empty_passes,
            resumed=self.resumed,
            peak_memory_bytes=max(self.peak_memory_bytes, peak_memory_bytes(device)),
            remarks=tuple(self.remarks),
        )

    @classmethod
    def of(cls, progress: Progress, *, patience: int | None) -> Tally:
        """Take the sums up again."""
        counted = progress.model_dump(exclude={"total_seconds", "points", "initial_loss", "last_loss", "best_loss"})
        return cls(
            patience=patience,
            **counted | {name: list(counted[name]) for name in ("recent_losses", "remarks")},
            points=list(progress.points),
            initial_loss=math.nan if progress.initial_loss is None else progress.initial_loss,
            last_loss=math.nan if progress.last_loss is None else progress.last_loss,
            best_loss=math.inf if progress.best_loss is None else progress.best_loss,
        )

    def summary(
        self,
        plan: Plan,
        setup: Setup,
        checkpoints: Checkpoints,
        *,
        inputs: dict[str, str],
        stop_reason: Literal["finished", "early_stopping", "out_of_time"],
        total_seconds: float,
    ) -> TrainingRun:
        """Sum up the finished run; its `scores` are still empty."""
        run = checkpoints.folder.parent
        return TrainingRun(
            inputs=inputs,
            run_name=run.name,
            stop_reason=stop_reason,
            num_steps=self.steps,
            planned_steps=self.planned_steps,
            num_epochs=self.epochs,
            num_trainable_parameters=setup.num_trainable_parameters,
            num_parameters=setup.num_parameters,
            initial_validation_loss=self.initial_loss,
            evaluations=tuple(self.points),
            best_step=self.best_step,
            best_validation_loss=self.best_loss,
            final_train_loss=self.last_loss,
            learned_tokens=self.learned_tokens,
            processed_tokens=self.processed_tokens,
            padded_tokens=self.padded_tokens,
            shared_tokens=self.shared_tokens,
            seconds=self.step_seconds,
            total_seconds=total_seconds,
            peak_memory_bytes=max(self.peak_memory_bytes, peak_memory_bytes(setup.device)),
            hardware=plan.hardware,
            versions=versions(plan),
            skipped_steps=self.skipped_steps,
            resumed=self.resumed,
            lost_seconds=self.lost_seconds,
            remarks=tuple(self.remarks),
            checkpoint=str(checkpoints.path(self.best_step).relative_to(run)),
        )


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
