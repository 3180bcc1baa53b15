"""Show a run's course in other programs' views, by name: TensorBoard, Weights & Biases, trackio.

A tracker reads the run's events like any other observer. One that fails is said once and left out: training goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from finetune_exe.diagnosis.redact import redact
from finetune_exe.domain.events import AnyEvent, Emit, Evaluated, GeneralTextMeasured, RunFinished, StepFinished
from finetune_exe.domain.plan import Plan
from finetune_exe.errors import missing_component

PROJECT = "fine-tune"
FOLDER = "tracking"
"""In the run's folder: what trackers keep on this machine."""
Settings = Mapping[str, str | int | float | bool | None]


class Session(Protocol):
    """One run as a tracker sees it."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Keep numbers of a step."""

    def close(self) -> None:
        """Bring everything to the disk."""


class Tracker(Protocol):
    """An entry of `TRACKERS`."""

    package: str

    def start(self, run: Path, settings: Settings) -> Session:
        """Open a session for a run; nothing goes over the network that the user's own settings do not ask for."""


class TensorBoard:
    """Event files in the run's folder: `tensorboard --logdir runs`."""

    package = "tensorboard"

    def start(self, run: Path, settings: Settings) -> Session:
        """Open an event file."""
        from tensorboard.summary import Writer

        return _TensorBoardSession(Writer(str(run / FOLDER / "tensorboard")))


class _TensorBoardSession:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step=step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of W&B in the run's folder; it stays there unless $WANDB_MODE says "online". Later: `wandb sync`."""

    package = "wandb"

    def start(self, run: Path, settings: Settings) -> Session:
        """Begin a run, offline unless the user says otherwise."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        folder = run / FOLDER
        folder.mkdir(exist_ok=True)
        return _WandbSession(
            wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT), name=run.name, dir=folder, config=dict(settings),
                mode=mode, save_code=False,
                settings=wandb.Settings(console="off", disable_git=True),
            )
        )  # fmt: skip


class _WandbSession:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class Trackio:
    """A run in trackio's own store on this machine: `trackio show`."""

    package = "trackio"

    def start(self, run: Path, settings: Settings) -> Session:
        """Begin a run."""
        import trackio

        trackio.init(project=PROJECT, name=run.name, config=dict(settings))
        return _TrackioSession(trackio)


class _TrackioSession:
    def __init__(self, trackio: Any) -> None:
        self._trackio = trackio

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._trackio.log(dict(values), step=step)

    def close(self) -> None:
        self._trackio.finish()


TRACKERS: dict[str, Tracker] = {"tensorboard": TensorBoard(), "wandb": WeightsAndBiases(), "trackio": Trackio()}


@contextmanager
def tracked(
    names: Sequence[str], plan: Plan, run: Path, *, emit: Emit, note: Callable[[str], object]
) -> Iterator[Emit]:
    """Give an `emit` that tells trackers too; they begin with the first numbers, when the run's folder is there.

    Args:
        names: Keys of `TRACKERS`.
        plan: Its settings are shown with the run, secrets taken out.
        run: The run's folder.
        emit: Receives every event in any case.
        note: Told of a tracker that fails.

    Raises:
        FineTuneError: X01 where a tracker's package is not installed.
    """
    for name in names:
        if find_spec(TRACKERS[name].package) is None:
            raise missing_component(TRACKERS[name].package, extra="track", needed_for=f"--track {name}")
    observers = [_Observer(name, TRACKERS[name], run, _shown(plan), note) for name in dict.fromkeys(names)]

    def told(event: AnyEvent) -> None:
        emit(event)
        for observer in observers:
            observer.see(event)

    try:
        yield told
    finally:
        for observer in observers:
            observer.close()


class _Observer:
    """Turns events into numbers for one tracker, until it fails."""

    def __init__(
        self, name: str, tracker: Tracker, run: Path, settings: Settings, note: Callable[[str], object]
    ) -> None:
        self._name, self._tracker, self._run, self._settings, self._note = name, tracker, run, settings, note
        self._session: Session | None = None
        self._failed = False

    def see(self, event: AnyEvent) -> None:
        numbers = numbers_of(event)
        if numbers is None or self._failed:
            return
        with self._guarded():
            if self._session is None:
                self._session = self._tracker.start(self._run, self._settings)
            self._session.log(*numbers)

    def close(self) -> None:
        if self._session is not None:
            with self._guarded():
                self._session.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as fault:  # noqa: BLE001 - whatever another program's view raises, training matters more
            self._failed = True
            self._note(f"{self._name} no longer follows this run: {redact(f'{type(fault).__name__}: {fault}')}")


def numbers_of(event: AnyEvent) -> tuple[int, dict[str, float]] | None:
    """Give step and numbers of an event that has some."""
    match event:
        case StepFinished():
            return event.step, {
                "train/loss": event.loss,
                "train/learning_rate": event.learning_rate,
                "train/gradient_norm": event.gradient_norm,
                "train/learned_tokens_per_second": event.learned_tokens / max(event.step_seconds, 1e-9),
                "train/epoch": event.epoch,
            }
        case Evaluated():
            return event.step, {"validation/loss": event.validation_loss}
        case GeneralTextMeasured():
            return event.step, {"validation/general_text_loss": event.loss}
        case RunFinished():
            return event.best_step, {"validation/best_loss": event.best_validation_loss}
        case _:
            return None


def _shown(plan: Plan) -> Settings:
    """Give the plan's settings as plain values, with secrets taken out."""
    return {
        path: redact(value) if isinstance(value, str) else redact(str(value)) if isinstance(value, tuple) else value
        for path, value, _ in plan.settings()
    }
