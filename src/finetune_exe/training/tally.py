"""What a run has come to so far, and when it stops getting better."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from finetune_exe.domain.events import StepFinished
from finetune_exe.domain.run import EvaluationPoint


@dataclass(slots=True, kw_only=True)
class Tally:
    """Sums over the steps, and the best evaluation."""

    patience: int | None
    """Evaluations without improvement after which the run is stale; None never is."""
    learned_tokens: int = 0
    processed_tokens: int = 0
    padded_tokens: int = 0
    step_seconds: float = 0.0
    last_loss: float = math.nan
    points: list[EvaluationPoint] = field(default_factory=list)
    best_step: int = 0
    best_loss: float = math.inf

    def add(self, step: StepFinished) -> None:
        """Count a finished step."""
        self.learned_tokens += step.learned_tokens
        self.processed_tokens += step.processed_tokens
        self.padded_tokens += step.padded_tokens
        self.step_seconds += step.step_seconds
        self.last_loss = step.loss

    def judge(self, point: EvaluationPoint) -> bool:
        """Note an evaluation and say whether it is the best so far."""
        self.points.append(point)
        better = point.validation_loss < self.best_loss
        if better:
            self.best_step, self.best_loss = point.step, point.validation_loss
        return better

    @property
    def is_stale(self) -> bool:
        """Whether the last `patience` evaluations brought nothing better."""
        since = sum(point.step > self.best_step for point in self.points)
        return self.patience is not None and since >= self.patience
