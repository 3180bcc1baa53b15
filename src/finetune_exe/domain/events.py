"""What a run says while it runs, one JSON line each in `events.jsonl`: the only source for live views."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

SPIKE = 2.5
"""Times the usual loss that count as a spike."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """One thing that happened; `seconds` counts from the start of the run."""

    seconds: float


class RunStarted(Event, frozen=True, kw_only=True, tag="run_started"):
    """The model is loaded and the first step is about to run."""

    num_steps: int
    num_sequences: int
    num_trainable_parameters: int
    device: str


class StepFinished(Event, frozen=True, kw_only=True, tag="step"):
    """One optimizer step."""

    step: int
    num_steps: int
    epoch: float
    loss: float
    """Mean loss over this step's learned tokens, in nats."""
    learning_rate: float
    gradient_norm: float
    learned_tokens: int
    processed_tokens: int
    padded_tokens: int
    shared_tokens: int = 0
    """Of them, those not computed because an earlier row of the pass begins with the same."""
    step_seconds: float
    memory_bytes: int | None = None
    """Largest memory so far: allocated on the GPU, or resident of the process without one."""


class Evaluated(Event, frozen=True, kw_only=True, tag="evaluated"):
    """The validation loss was measured."""

    step: int
    epoch: float
    validation_loss: float
    best: bool


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A row that the model answered while it trained."""

    prompt: str
    """The end of what was asked."""
    answer: str
    reference: str
    """The answer that the row has."""
    stopped: bool
    """Whether the model ended its answer by itself."""


class Sampled(Event, frozen=True, kw_only=True, tag="sampled"):
    """A few validation rows were answered."""

    step: int
    samples: tuple[Sample, ...]


class GeneralTextMeasured(Event, frozen=True, kw_only=True, tag="general_text"):
    """The loss of text that has nothing to do with the task was measured."""

    step: int
    loss: float
    """Mean over its tokens, in nats."""


class PairsJudged(Event, frozen=True, kw_only=True, tag="pairs"):
    """How the model ranks pairs of answers, held against the model as it was."""

    step: int
    split: Literal["train", "validation"]
    """Pairs of this step, or all that choose the checkpoint."""
    accuracy: float
    """Share of pairs whose better answer gained more."""
    margin: float
    """Mean gain of the better answer over the worse one, times beta, in nats."""


class CheckpointSaved(Event, frozen=True, kw_only=True, tag="checkpoint"):
    """A checkpoint is on disk, whole."""

    step: int
    path: str


class Noticed(Event, frozen=True, kw_only=True, tag="noticed"):
    """Something the user should know."""

    message: str


class RunResumed(Event, frozen=True, kw_only=True, tag="run_resumed"):
    """The run was taken up again; steps after `step` that stand above were lost and come again."""

    step: int
    """Steps made before."""
    num_steps: int
    checkpoint: str
    """Folder it goes on from, relative to the run's."""
    lost_seconds: float
    """Wall time of what comes again."""
    device: str


class RunStopped(Event, frozen=True, kw_only=True, tag="run_stopped"):
    """The run was asked to stop, saved and left; it can be taken up again."""

    step: int
    reason: str
    """Name of the signal."""


class StepSkipped(Event, frozen=True, kw_only=True, tag="step_skipped"):
    """A step was not made: the weights are as before it."""

    step: int
    num_steps: int
    reason: str
    rows: tuple[str, ...]
    """Rows it would have learned from, where each stands: file:line."""


class LossSpiked(Event, frozen=True, kw_only=True, tag="loss_spiked"):
    """A step's loss was far above what was usual before it."""

    step: int
    loss: float
    usual: float
    """Median of the losses before."""
    rows: tuple[str, ...]
    back_to: int | None = None
    """Step whose checkpoint the weights went back to; None where they stayed as they were."""


class BatchShrunk(Event, frozen=True, kw_only=True, tag="batch_shrunk"):
    """Memory ran out; from here on fewer rows go through the model at once, and as many as before make a step."""

    step: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    reason: str


class Diagnosed(Event, frozen=True, kw_only=True, tag="diagnosed"):
    """The course of the run so far looks like a known trouble."""

    step: int
    label: str
    title: str
    evidence: tuple[str, ...]
    fix: str
    patch: dict[str, str | int | float | bool | None]
    """Settings that would mend it, by dotted path."""


class RunFinished(Event, frozen=True, kw_only=True, tag="run_finished"):
    """Training is over."""

    stop_reason: str
    best_step: int
    best_validation_loss: float


AnyEvent = (
    RunStarted
    | RunResumed
    | StepFinished
    | StepSkipped
    | LossSpiked
    | BatchShrunk
    | Evaluated
    | PairsJudged
    | Sampled
    | GeneralTextMeasured
    | CheckpointSaved
    | Noticed
    | Diagnosed
    | RunStopped
    | RunFinished
)
Emit = Callable[[AnyEvent], None]


def encode_event(event: AnyEvent) -> bytes:
    """Write an event as one JSON line, without the line's end."""
    return msgspec.json.encode(event)


def read_events(path: Path) -> list[AnyEvent]:
    """Read a run's events; a torn last line, as a killed run leaves it, is passed over."""
    events: list[AnyEvent] = []
    decoder = msgspec.json.Decoder(AnyEvent)
    for line in path.read_bytes().split(b"\n"):
        try:
            events.append(decoder.decode(line))
        except msgspec.DecodeError:
            continue
    return events
