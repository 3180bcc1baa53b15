"""What a training run was and what it measured."""

from __future__ import annotations

from typing import Literal

from finetune_exe.domain.document import Document, Value
from finetune_exe.domain.values import Hardware, Interval


class EvaluationPoint(Value):
    """Validation loss at one step."""

    step: int
    epoch: float
    validation_loss: float
    """Mean negative log-likelihood of the learned tokens, in nats."""


class Score(Value):
    """A prediction of the plan beside what the run measured."""

    name: str
    unit: str
    predicted: Interval
    measured: float
    inside: bool


class TrainingRun(Document):
    """Summary of a finished run; the course of it is in `events.jsonl`."""

    run_name: str
    stop_reason: Literal["finished", "early_stopping", "out_of_time"]
    num_steps: int
    planned_steps: int
    num_epochs: float
    num_trainable_parameters: int
    num_parameters: int
    initial_validation_loss: float
    """Before the first step: the base model's loss on the same rows."""
    evaluations: tuple[EvaluationPoint, ...]
    best_step: int
    best_validation_loss: float
    final_train_loss: float
    learned_tokens: int
    """Tokens the loss was taken over, all steps together."""
    processed_tokens: int
    """Tokens run through the model in training, without padding."""
    padded_tokens: int
    """The same with padding."""
    shared_tokens: int = 0
    """Of them, those not computed because an earlier row of the pass begins with the same."""
    seconds: float
    """Wall time of training steps alone."""
    total_seconds: float
    """Wall time of the whole run: loading, evaluations and checkpoints too."""
    peak_memory_bytes: int
    """Largest resident memory of the process on a CPU, peak allocated memory on a GPU."""
    hardware: Hardware
    versions: dict[str, str]
    skipped_steps: int = 0
    """Steps not made, because their numbers were not finite or no token was to be learned."""
    resumed: int = 0
    """How often the run was interrupted and taken up again."""
    lost_seconds: float = 0.0
    """Wall time spent on what had to be done again after an interruption; not part of total_seconds."""
    remarks: tuple[str, ...] = ()
    """What happened on the way that a reader should know: memory that ran out, changes on resuming."""
    checkpoint: str
    """Folder of the best checkpoint, relative to the run's folder."""
    scores: tuple[Score, ...] = ()
