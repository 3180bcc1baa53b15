"""What a run says while it runs, one JSON line each in `events.jsonl`: the only source for live views."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec


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
    step_seconds: float


class Evaluated(Event, frozen=True, kw_only=True, tag="evaluated"):
    """The validation loss was measured."""

    step: int
    epoch: float
    validation_loss: float
    best: bool


class CheckpointSaved(Event, frozen=True, kw_only=True, tag="checkpoint"):
    """A checkpoint is on disk, whole."""

    step: int
    path: str


class Noticed(Event, frozen=True, kw_only=True, tag="noticed"):
    """Something the user should know."""

    message: str


class RunFinished(Event, frozen=True, kw_only=True, tag="run_finished"):
    """Training is over."""

    stop_reason: str
    best_step: int
    best_validation_loss: float


AnyEvent = RunStarted | StepFinished | Evaluated | CheckpointSaved | Noticed | RunFinished
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
