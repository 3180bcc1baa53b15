"""What trackers are told is what happened, nothing secret leaves, and one that fails does not stop a run."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.unit.report import sample

from finetune_exe.domain.events import AnyEvent, CheckpointSaved, Evaluated, RunFinished, StepFinished
from finetune_exe.domain.plan import DataChoice, Plan
from finetune_exe.errors import FineTuneError
from finetune_exe.workflow import trackers
from finetune_exe.workflow.trackers import TRACKERS, Session, Settings, tracked

SECRET = "hf_abcdefghijklmnopqrstuvwxyz0123456789"


def step(number: int) -> StepFinished:
    return StepFinished(
        seconds=float(number), step=number, num_steps=3, epoch=number / 3, loss=3.0 / number, learning_rate=1e-3,
        gradient_norm=0.5, learned_tokens=100, processed_tokens=200, padded_tokens=210, step_seconds=0.5,
    )  # fmt: skip


EVENTS: tuple[AnyEvent, ...] = (
    Evaluated(seconds=0.0, step=0, epoch=0.0, validation_loss=4.0, best=False),
    step(1),
    step(2),
    step(3),
    Evaluated(seconds=3.0, step=3, epoch=1.0, validation_loss=2.0, best=True),
    CheckpointSaved(seconds=3.0, step=3, path="checkpoints/step-3"),
    RunFinished(seconds=4.0, stop_reason="finished", best_step=3, best_validation_loss=2.0),
)


def follow(names: tuple[str, ...], run: Path, plan: Plan | None = None) -> tuple[list[AnyEvent], list[str]]:
    """Let trackers follow a short run; give the events that went on, and the notes."""
    emitted, notes = list[AnyEvent](), list[str]()
    with tracked(names, plan or sample.plan(), run, emit=emitted.append, note=notes.append) as emit:
        run.mkdir(exist_ok=True)
        for event in EVENTS:
            emit(event)
    return emitted, notes


class Recorder:
    """A tracker that keeps what it is told; it fails at a step where one is given."""

    package = "json"

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at, self.settings, self.closed = fails_at, dict[str, Any](), False
        self.logged: list[tuple[int, dict[str, float]]] = []

    def start(self, run: Path, settings: Settings) -> Session:
        self.settings = dict(settings)
        return self

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step == self.fails_at:
            raise RuntimeError(f"no space; your token {SECRET}")
        self.logged.append((step, dict(values)))

    def close(self) -> None:
        self.closed = True


def test_numbers_are_those_of_the_events_and_secrets_stay_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setitem(TRACKERS, "wandb", recorder)
    plan = sample.plan()
    plan = plan.model_copy(update={"data": DataChoice(paths=(f"https://x:{SECRET}@host/rows.jsonl",))})
    emitted, notes = follow(("wandb", "wandb"), tmp_path, plan)
    assert (tuple(emitted), notes, recorder.closed) == (EVENTS, [], True)
    assert [number for number, _ in recorder.logged] == [0, 1, 2, 3, 3, 3]
    assert recorder.logged[2][1] == {
        "train/loss": 1.5, "train/learning_rate": 1e-3, "train/gradient_norm": 0.5,
        "train/learned_tokens_per_second": 200.0, "train/epoch": 2 / 3,
    }  # fmt: skip
    assert recorder.logged[4][1] == {"validation/loss": 2.0}
    assert recorder.settings["optimizer.learning_rate"] == plan.optimizer.learning_rate
    assert SECRET not in str(recorder.settings)


def test_a_tracker_that_fails_is_said_once_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(fails_at=2)
    monkeypatch.setitem(TRACKERS, "trackio", recorder)
    emitted, notes = follow(("trackio",), tmp_path)
    assert tuple(emitted) == EVENTS
    assert len(notes) == 1
    assert notes[0].startswith("trackio no longer follows this run: RuntimeError: no space")
    assert SECRET not in notes[0]
    assert len(recorder.logged) == 2


def test_a_tracker_that_is_not_installed_is_named_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(FineTuneError, match=r"error\[FT-X01\]: --track wandb needs the package 'wandb'") as caught:
        follow(("wandb",), tmp_path / "run")
    assert caught.value.fix == 'pip install "finetune-exe[track]"'
    assert not (tmp_path / "run").exists()


def test_trackio_is_called_as_it_wants_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any]] = []
    fake = ModuleType("trackio")
    for name in ("init", "log", "finish"):
        monkeypatch.setattr(fake, name, lambda *a, _n=name, **k: calls.append((_n, (a, k))), raising=False)
    monkeypatch.setitem(sys.modules, "trackio", fake)
    monkeypatch.setattr(trackers, "find_spec", lambda name: True)
    assert follow(("trackio",), tmp_path / "run")[1] == []
    assert [name for name, _ in calls] == ["init", *["log"] * 6, "finish"]
    assert calls[0][1][1]["project"] == "fine-tune"
    assert "space_id" not in calls[0][1][1], "nothing is sent anywhere"
    assert calls[2][1] == (({"train/loss": 3.0, **calls[2][1][0][0]},), {"step": 1})


def test_tensorboard_reads_back_what_was_told(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert follow(("tensorboard",), tmp_path / "run")[1] == []
    read = EventAccumulator(str(tmp_path / "run" / "tracking" / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    assert {"train/loss", "validation/loss"} <= set(read.Tags()["tensors"])
    assert [point.step for point in read.Tensors("train/loss")] == [1, 2, 3]


def test_wandb_stays_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "localhost", "::1"), address
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert follow(("wandb",), tmp_path / "run")[1] == []
    assert list((tmp_path / "run" / "tracking" / "wandb").glob("offline-run-*/*.wandb"))
