"""Faults of the machine around a run: kills within a step, signals within a save, clocks that jump, other threads."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.unit.training.conftest import MakePlan
from tests.unit.training.processes import results, start, together
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from finetune_exe.domain.events import AnyEvent, CheckpointSaved, StepFinished
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.plan_yaml import dump_plan, read_plan
from finetune_exe.errors import FineTuneError
from finetune_exe.export.excerpt import config_excerpt
from finetune_exe.models.ranks import Ranks
from finetune_exe.prepared.store import PreparedFolder, load_dataset
from finetune_exe.training import checkpoints, guards
from finetune_exe.training.checkpoints import fault_of, find_checkpoints
from finetune_exe.training.loop import train
from finetune_exe.training.resume import find_resumption
from finetune_exe.training.step import learn
from finetune_exe.workflow.signals import stop_on_signals

COMMON = ("schedule.max_steps=6", "batch.micro_batch_size=4", "batch.gradient_accumulation_steps=2",
          "optimizer.learning_rate=1e-2", "method.lora_dropout=0.2", "checkpoints.save_every_steps=1",
          "checkpoints.keep_last=9")  # fmt: skip


def in_a_process(
    _: Ranks, *, plan: str, data: str, base: str, run: str, die: str | None = None, threads: int = 1
) -> dict[str, Any]:
    """Train, or go on; where `die` says so the process is killed before or after its fourth move of the weights."""
    torch.set_num_threads(threads)
    moves = 0

    def killed(optimizer: torch.optim.Optimizer, *_: object) -> None:
        nonlocal moves
        moves += 1
        if moves == 5:  # the first was that of the rehearsal
            for group in optimizer.param_groups:
                group["params"][0].data.mul_(0.5)
            os.kill(os.getpid(), signal.SIGKILL)

    if die == "before":
        register_optimizer_step_pre_hook(killed)
    elif die == "after":
        register_optimizer_step_post_hook(killed)
    losses: list[float] = []
    folder = Path(run)
    train(
        Plan.model_validate_json(plan), load_dataset(Path(data), verify=False), base=Path(base), run=folder,
        emit=lambda event: losses.append(event.loss) if isinstance(event, StepFinished) else None,
        resumption=find_resumption(folder),
    )  # fmt: skip
    return {"losses": losses}


def weights(run: Path) -> torch.Tensor:
    newest = find_checkpoints(run).whole[0].path
    (file,) = newest.glob("*model.safetensors")
    return torch.cat([tensor.flatten() for _, tensor in sorted(load_file(file).items())])


@pytest.fixture
def given(make: MakePlan, data: PreparedFolder, base: Path) -> dict[str, str]:
    return {"plan": make(*COMMON).model_dump_json(by_alias=True), "data": str(data.path), "base": str(base)}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_while_the_weights_move_costs_that_step_only(moment: str, given: dict[str, str], tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    (wanted,) = together(in_a_process, tmp_path / "a", count=1, run=str(whole), **given)
    (process,) = start(in_a_process, tmp_path / "b", count=1, run=str(broken), die=moment, **given)
    assert results([process], tmp_path / "b") == [None]
    assert process.exitcode == -signal.SIGKILL
    assert [kept.manifest.step for kept in find_checkpoints(broken).whole] == [3, 2, 1]
    (found,) = together(in_a_process, tmp_path / "c", count=1, run=str(broken), **given)
    assert found["losses"] == wanted["losses"][3:]
    assert torch.equal(weights(broken), weights(whole))


def test_the_same_threads_give_the_same_bits_and_others_the_same_but_for_rounding(
    given: dict[str, str], tmp_path: Path
) -> None:
    found = {}
    for name, threads in (("one", 1), ("again", 1), ("two", 2)):
        (told,) = together(in_a_process, tmp_path / f"told-{name}", count=1, run=str(tmp_path / name), threads=threads,
                           **given)  # fmt: skip
        found[name] = told["losses"], weights(tmp_path / name)
    assert found["again"][0] == found["one"][0]
    assert torch.equal(found["again"][1], found["one"][1])
    assert found["two"][0] == pytest.approx(found["one"][0], rel=1e-5)


class Run:
    """One run in this process that hears signals as a real one does."""

    def __init__(self, plan: Plan, data: PreparedFolder, base: Path, folder: Path) -> None:
        self.plan, self.data, self.base, self.folder = plan, data, base, folder
        self.events: list[AnyEvent] = []

    def start(self) -> None:
        with stop_on_signals(lambda _: None) as asked_to_stop:
            train(self.plan, self.data, base=self.base, run=self.folder, emit=self.events.append,
                  resumption=find_resumption(self.folder), asked_to_stop=asked_to_stop)  # fmt: skip

    @property
    def losses(self) -> dict[int, float]:
        return {event.step: event.loss for event in self.events if isinstance(event, StepFinished)}

    @property
    def saved(self) -> list[int]:
        return [event.step for event in self.events if isinstance(event, CheckpointSaved)]


@pytest.fixture
def run(make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path) -> Run:
    return Run(make(*COMMON), data, base, tmp_path / "run")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system lists no processes under /proc")
def test_no_other_process_and_no_thread_of_ours_reads_rows_that_could_die_unnoticed(run: Run) -> None:
    """Where other trainers load rows in worker processes, this one reads each batch itself when its pass comes."""
    found: list[tuple[str, int]] = []

    class Watched(list[AnyEvent]):
        def append(self, event: AnyEvent) -> None:
            if isinstance(event, StepFinished):
                children = [task.joinpath("children").read_text() for task in Path("/proc/self/task").iterdir()]
                found.append(("".join(children), threading.active_count()))
            super().append(event)

    run.events = Watched()
    before = "".join(task.joinpath("children").read_text() for task in Path("/proc/self/task").iterdir())
    threads = threading.active_count()
    run.start()
    assert found == [(before, threads)] * len(run.losses)
    assert run.losses


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_within_a_save_lets_it_finish_and_saves_no_second_time(
    name: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, saves = checkpoints.write_learned, list[Path]()

    def signalled(*given: Any) -> None:
        saves.append(given[1])
        if len(saves) == 2:
            os.kill(os.getpid(), getattr(signal, name))
        real(*given)

    monkeypatch.setattr(checkpoints, "write_learned", signalled)
    with pytest.raises(FineTuneError, match=rf"FT-T11.*{name} after step 2"):
        run.start()
    assert len(saves) == 2
    assert run.saved == [1, 2]
    assert fault_of(run.folder / "checkpoints" / "step-2") is None


def test_a_signal_within_a_step_saves_at_its_end_and_goes_on_exactly(
    run: Run, make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def signalled(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:  # the first is that of the rehearsal
            os.kill(os.getpid(), signal.SIGTERM)
        return learn(*given, **named)

    monkeypatch.setattr(guards, "learn", signalled)
    with pytest.raises(FineTuneError, match=r"FT-T11.*SIGTERM after step 3") as stopped:
        run.start()
    assert stopped.value.exit_status == 75
    assert max(run.saved) == 3
    run.start()
    whole = Run(make(*COMMON), data, base, tmp_path / "whole")
    whole.start()
    assert run.losses == whole.losses
    assert torch.equal(weights(run.folder), weights(whole.folder))


def test_a_clock_that_is_set_changes_no_duration_and_no_order(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of day jumps by years at every look, and the newest checkpoint bears the oldest date."""
    real, rng = time.time, random.Random(3)  # noqa: S311 - jumps, not secrets
    monkeypatch.setattr(time, "time", lambda: real() + rng.uniform(-1e8, 1e8))
    calls = 0

    def signalled(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return learn(*given, **named)

    monkeypatch.setattr(guards, "learn", signalled)
    begun = time.monotonic()
    with pytest.raises(FineTuneError, match="after step 4"):
        run.start()
    for number, path in enumerate(sorted((run.folder / "checkpoints").iterdir())):
        os.utime(path, (1e9 - number, 1e9 - number))
    found = find_resumption(run.folder)
    assert found is not None
    assert found.checkpoint.manifest.step == 4
    run.start()
    seconds = [event.seconds for event in run.events]
    assert seconds == sorted(seconds)
    assert 0 <= seconds[0] <= seconds[-1] < time.monotonic() - begun + 1
    assert all(0 <= event.step_seconds < 60 for event in run.events if isinstance(event, StepFinished))
    assert sorted(run.losses) == [1, 2, 3, 4, 5, 6]
    assert all(map(math.isfinite, run.losses.values()))


def test_a_seed_that_nobody_named_is_kept_and_shown_with_the_run(run: Run, tmp_path: Path) -> None:
    """A plan without one gets one, which plan, checkpoint and report name; so the run can be repeated."""
    lines = dump_plan(run.plan).splitlines(keepends=True)
    unnamed = tmp_path / "plan.yaml"
    unnamed.write_text("".join(line for line in lines if not line.startswith("seed:")))
    run.plan = read_plan(unnamed)
    run.start()
    manifest = json.loads((run.folder / "checkpoints" / "step-6" / "manifest.json").read_text())
    assert manifest["settings"]["seed"] == run.plan.seed
    assert f"seed: {run.plan.seed}\n" in dump_plan(run.plan)
    assert f"seed={run.plan.seed}" in config_excerpt(run.plan)
