"""Memory that runs out, numbers that are not finite, rows with nothing to learn, and losses out of the ordinary."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.unit.training.conftest import MakePlan

from finetune_exe.domain.events import AnyEvent, BatchShrunk, LossSpiked, StepFinished, StepSkipped
from finetune_exe.domain.run import TrainingRun
from finetune_exe.errors import FineTuneError
from finetune_exe.models.forward import LossFunction, RowLosses, Rows
from finetune_exe.prepared.store import PreparedFolder, load_dataset
from finetune_exe.training import course, guards
from finetune_exe.training.batches import plan_epoch
from finetune_exe.training.checkpoints import find_checkpoints
from finetune_exe.training.loop import train
from finetune_exe.training.memory import is_out_of_memory
from finetune_exe.training.resume import find_resumption
from finetune_exe.training.setup import Setup
from finetune_exe.training.step import Learned, learn

COMMON = ("batch.packing=false", "batch.micro_batch_size=4", "batch.gradient_accumulation_steps=2", "schedule.max_steps=9",
          "checkpoints.evaluations_per_epoch=2", "optimizer.learning_rate=1e-2",
          "checkpoints.early_stopping_patience=null")  # fmt: skip
CUDA = RuntimeError("CUDA out of memory. Tried to allocate 2.10 GiB. GPU 0 has a total capacity of 23.68 GiB")
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
)
Start = Callable[..., tuple[TrainingRun, list[AnyEvent]]]


@pytest.fixture
def start(make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path) -> Start:
    def started(
        name: str, *settings: str, rows: PreparedFolder = data, **more: object
    ) -> tuple[TrainingRun, list[AnyEvent]]:
        events: list[AnyEvent] = []
        plan = make(*COMMON, *settings)
        run = train(plan, rows, base=base, run=tmp_path / name, emit=events.append, rehearse=False, **more)  # type: ignore[arg-type]
        return run, events

    return started


def of(events: Sequence[AnyEvent], kind: type) -> list[AnyEvent]:
    return [event for event in events if isinstance(event, kind)]


def losses(events: Sequence[AnyEvent]) -> list[float]:
    return [event.loss for event in events if isinstance(event, StepFinished)]


@pytest.mark.parametrize(
    ("fault", "is_one"),
    [(CUDA, True), (CPU, True), (MemoryError(), True), (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), True),
     (RuntimeError("size mismatch"), False), (ValueError("out of memory"), False)],
)  # fmt: skip
def test_what_counts_as_out_of_memory(fault: BaseException, is_one: bool) -> None:
    assert is_out_of_memory(fault) is is_one


@pytest.mark.parametrize("fault", [CUDA, CPU, MemoryError()], ids=["cuda", "cpu", "python"])
@pytest.mark.parametrize("late", [False, True], ids=["at step 1", "at step 5"])
def test_memory_that_runs_out_halves_the_rows_of_a_pass_and_nothing_else(
    late: bool, fault: Exception, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected, before = start("whole")
    calls = 0

    def cramped(setup: Setup, rows: Sequence[Rows], *, max_norm: float | None) -> Learned:
        nonlocal calls
        calls += 1
        if (calls >= 5 or not late) and max(len(batch.ids_BT) for batch in rows) > 1:
            raise fault
        return learn(setup, rows, max_norm=max_norm)

    monkeypatch.setattr(guards, "learn", cramped)
    found, events = start("cramped")
    shrunk = of(events, BatchShrunk)
    sizes = [
        (event.micro_batch_size, event.gradient_accumulation_steps)
        for event in shrunk
        if isinstance(event, BatchShrunk)
    ]
    assert sizes == [(2, 4), (1, 8)]
    assert losses(events) == pytest.approx(losses(before), rel=1e-5)
    assert (found.num_steps, found.learned_tokens) == (expected.num_steps, expected.learned_tokens)
    assert any("memory ran out" in remark for remark in found.remarks)
    manifest = find_checkpoints(tmp_path / "cramped").whole[0].manifest
    assert manifest.cursor.micro_batch_size == 1


def test_a_step_that_is_tried_again_drops_what_it_would_have_dropped_at_first(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit the run of a plan with so few rows in a pass: the attempt that failed drew no random number."""
    dropout = ("method.lora_dropout=0.3", "schedule.max_steps=3")
    _, wanted = start("few", "batch.micro_batch_size=1", "batch.gradient_accumulation_steps=8", *dropout)

    def cramped(setup: Setup, rows: Sequence[Rows], *, max_norm: float | None) -> Learned:
        found = learn(setup, rows, max_norm=max_norm)
        if max(len(batch.ids_BT) for batch in rows) > 1:
            raise CUDA
        return found

    monkeypatch.setattr(guards, "learn", cramped)
    _, found = start("many", *dropout)
    assert len(of(found, BatchShrunk)) == 2
    assert losses(found) == losses(wanted)


def room_for_two_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let memory run out with more than two rows in a pass; give the rows of each, as they come."""
    seen: list[int] = []

    def cramped(setup: Setup, rows: Sequence[Rows], *, max_norm: float | None) -> Learned:
        seen.append(max(len(batch.ids_BT) for batch in rows))
        if seen[-1] > 2:
            raise MemoryError
        return learn(setup, rows, max_norm=max_norm)

    monkeypatch.setattr(guards, "learn", cramped)
    return seen


def test_a_resumed_run_remembers_that_memory_ran_out(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = room_for_two_rows(monkeypatch)
    with pytest.raises(FineTuneError, match="FT-T11"):
        start("run", asked_to_stop=lambda: "SIGTERM")
    seen.clear()
    _, events = start("run", resumption=find_resumption(tmp_path / "run"))
    assert max(seen) == 2
    assert not of(events, BatchShrunk)


def test_rows_of_a_pass_that_the_plan_has_changed_since_are_tried_again(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = room_for_two_rows(monkeypatch)
    with pytest.raises(FineTuneError, match="FT-T11"):
        start("run", asked_to_stop=lambda: "SIGTERM")
    monkeypatch.setattr(guards, "learn", lambda setup, rows, *, max_norm: (
        seen.append(max(len(batch.ids_BT) for batch in rows)), learn(setup, rows, max_norm=max_norm)
    )[1])  # fmt: skip
    seen.clear()
    start("run", "batch.micro_batch_size=8", "batch.gradient_accumulation_steps=1",
          resumption=find_resumption(tmp_path / "run"))  # fmt: skip
    assert max(seen) == 8, "not what memory allowed before"


@pytest.mark.parametrize("place", ["evaluation", "move of the weights", "model"])
def test_memory_that_runs_out_where_no_rows_can_be_fewer_is_said(
    place: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def none_left(*_: object, **__: object) -> Any:
        nonlocal calls
        calls += 1
        if place == "model" or calls > 1:  # the first evaluation and the rehearsal's move go well
            raise CUDA
        return 1.0

    if place == "evaluation":
        monkeypatch.setattr(course, "mean_loss", none_left)
    elif place == "model":
        monkeypatch.setattr("finetune_exe.training.setup.load_base", none_left)
    else:
        monkeypatch.setattr(torch.optim.AdamW, "step", none_left)
    with pytest.raises(FineTuneError, match=r"error\[FT-T14\]") as refused:
        start("run")
    assert place in refused.value.where
    assert "CUDA out of memory" in refused.value.why


def test_memory_too_small_for_one_row_is_said_with_the_row(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> Learned:
        raise CUDA

    monkeypatch.setattr(guards, "learn", none_left)
    with pytest.raises(FineTuneError, match=r"error\[FT-T14\].*one row of \d+ tokens") as refused:
        start("run")
    assert "rows.jsonl:" in refused.value.where
    assert "CUDA out of memory" in refused.value.why


@pytest.fixture
def poisoned(data: PreparedFolder, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let one training row have a loss that is not a number, and say where it stands."""
    split = data.split("train")
    ids, call = torch.tensor(np.array(split.sequence(7).tokens), dtype=torch.int64), LossFunction.__call__

    def poisoning(self: LossFunction, rows: Rows) -> RowLosses:
        found = call(self, rows)
        bad = [row for row, have in enumerate(rows.ids_BT[:, : len(ids)]) if torch.equal(have.cpu(), ids)]
        chosen = torch.isin(found.row_N.cpu(), torch.tensor(bad)).to(found.nll_N.device)
        return RowLosses(torch.where(chosen, math.nan, found.nll_N), found.row_N)

    monkeypatch.setattr(LossFunction, "__call__", poisoning)
    return split.read_rows()[int(split.rows[7])].source


def test_a_step_with_a_bad_row_is_left_out_and_the_row_is_named(poisoned: str, start: Start) -> None:
    found, events = start("run")
    skipped = of(events, StepSkipped)
    assert [event.rows for event in skipped if isinstance(event, StepSkipped)] == [(poisoned,)] * len(skipped)
    assert found.skipped_steps == len(skipped) >= 1
    assert found.num_steps == 9 == len(losses(events)) + len(skipped)
    assert all(map(math.isfinite, losses(events)))


def test_a_step_that_is_left_out_leaves_the_weights_as_they_were(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    weights: list[torch.Tensor] = []

    def overflowing(setup: Setup, rows: Sequence[Rows], *, max_norm: float | None) -> Learned:
        weights.append(torch.cat([parameter.detach().flatten().clone() for parameter in setup.trainable]))
        found = learn(setup, rows, max_norm=max_norm)
        return Learned(found.loss, math.inf) if len(weights) == 4 else found

    monkeypatch.setattr(guards, "learn", overflowing)
    found, events = start("run")
    (skipped,) = of(events, StepSkipped)
    assert isinstance(skipped, StepSkipped)
    assert skipped.step == 4
    assert "gradient norm inf" in skipped.reason
    assert len(skipped.rows) == 8
    assert torch.equal(weights[3], weights[4])
    assert not torch.equal(weights[4], weights[5])
    assert found.skipped_steps == 1


def test_five_in_a_row_end_the_run_and_four_do_not(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    for many in (4, 5):
        calls = iter(range(99))

        def overflowing(
            setup: Setup,
            rows: Sequence[Rows],
            *,
            max_norm: float | None,
            calls: Iterator[int] = calls,
            many: int = many,
        ) -> Learned:
            found = learn(setup, rows, max_norm=max_norm)
            return Learned(math.nan, found.gradient_norm) if 1 <= next(calls) <= many else found

        monkeypatch.setattr(guards, "learn", overflowing)
        if many == 4:
            assert start("four")[0].skipped_steps == 4
            continue
        with pytest.raises(FineTuneError, match=r"error\[FT-T01\].*5th in a row") as ended:
            start("five")
        assert ended.value.exit_status == 70


@pytest.fixture
def partly_masked(data: PreparedFolder, tmp_path: Path) -> PreparedFolder:
    """The rows with no token learned in every other one."""
    shutil.copytree(data.path, tmp_path / "masked")
    learned = np.load(tmp_path / "masked" / "train.learned.npy", mmap_mode="r+")
    offsets = np.load(tmp_path / "masked" / "train.offsets.npy")
    for index in range(0, len(offsets) - 1, 2):
        learned[offsets[index] : offsets[index + 1]] = False
    learned.flush()
    return load_dataset(tmp_path / "masked", verify=False)


def test_rows_with_nothing_to_learn_are_passed_over_and_counted(
    partly_masked: PreparedFolder, start: Start, make: MakePlan, tmp_path: Path
) -> None:
    single = ("batch.micro_batch_size=1", "batch.gradient_accumulation_steps=1")
    found, events = start("run", *single, rows=partly_masked)
    lengths = partly_masked.split("train").lengths
    order = [part[0] for (part,) in plan_epoch(lengths, make(*COMMON, *single).batch, seed=0, epoch=0)][:9]
    nothing = [step for step, index in enumerate(order, start=1) if index % 2 == 0]
    assert [event.step for event in of(events, StepSkipped) if isinstance(event, StepSkipped)] == nothing
    assert found.skipped_steps == len(nothing)
    assert 0.0 not in losses(events)
    assert all(map(math.isfinite, losses(events)))
    pairs = start("pairs", "batch.micro_batch_size=1", "batch.gradient_accumulation_steps=8", rows=partly_masked)
    assert pairs[0].skipped_steps == 0
    progress = find_checkpoints(tmp_path / "pairs").whole[0].manifest.progress
    assert progress.empty_passes > 20


def test_a_spike_is_reported_with_its_rows(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def spiking(setup: Setup, rows: Sequence[Rows], *, max_norm: float | None) -> Learned:
        nonlocal calls
        calls += 1
        found = learn(setup, rows, max_norm=max_norm)
        return Learned(10 * found.loss, found.gradient_norm) if calls in (3, 13) else found

    monkeypatch.setattr(guards, "learn", spiking)
    _, events = start("run", "schedule.max_steps=16", "optimizer.learning_rate=1e-4")
    (spike,) = of(events, LossSpiked)
    assert isinstance(spike, LossSpiked)
    assert spike.step == 13, "at step 3 too little was seen to know what is usual"
    assert spike.loss > 2.5 * spike.usual
    assert len(spike.rows) == 8
    assert all("rows.jsonl:" in row for row in spike.rows)


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{step}" / "state" / "trained.safetensors")


def test_a_spike_sends_the_weights_back_and_leaves_its_rows_out_where_that_is_wanted(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run that goes back after step 13 and one that never made steps 12 and 13 learn the same from step 14."""
    calls = 0

    def spiking(setup: Setup, rows: Sequence[Rows], *, max_norm: float | None) -> Learned:
        nonlocal calls
        calls += 1
        found = learn(setup, rows, max_norm=max_norm)
        return Learned(10 * found.loss, found.gradient_norm) if calls == 13 else found

    def never_made(setup: Setup, rows: Sequence[Rows], *, max_norm: float | None) -> Learned:
        nonlocal calls
        calls += 1
        return Learned(math.nan, 1.0) if calls in (12, 13) else learn(setup, rows, max_norm=max_norm)

    common = ("schedule.max_steps=16", "optimizer.learning_rate=1e-3", "checkpoints.keep_last=40")
    saved_at_11 = ("checkpoints.evaluations_per_epoch=0.01", "checkpoints.save_every_steps=11")
    monkeypatch.setattr(guards, "learn", spiking)
    summary, events = start("back", *common, *saved_at_11, "checkpoints.go_back_on_spike=true")
    (spike,) = of(events, LossSpiked)
    assert isinstance(spike, LossSpiked)
    assert (spike.step, spike.back_to, summary.skipped_steps) == (13, 11, 2)
    assert "went back to those of step 11" in " ".join(summary.remarks)
    monkeypatch.setattr(guards, "learn", never_made)
    calls = 0
    start("without", *common, *saved_at_11)
    ours, theirs = weights(tmp_path / "back", 16), weights(tmp_path / "without", 16)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_steps_undone_by_two_spikes_in_turn_are_counted_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """After steps 13 and 15 the run goes back to step 11: the rows of four steps are left out, not those of six."""
    calls = 0

    def spiking(setup: Setup, rows: Sequence[Rows], *, max_norm: float | None) -> Learned:
        nonlocal calls
        calls += 1
        found = learn(setup, rows, max_norm=max_norm)
        return Learned(10 * found.loss, found.gradient_norm) if calls in (13, 15) else found

    monkeypatch.setattr(guards, "learn", spiking)
    summary, events = start("run", "schedule.max_steps=16", "optimizer.learning_rate=1e-3",
                            "checkpoints.evaluations_per_epoch=0.01", "checkpoints.save_every_steps=11",
                            "checkpoints.go_back_on_spike=true")  # fmt: skip
    spikes = [event for event in events if isinstance(event, LossSpiked)]
    assert [(spike.step, spike.back_to) for spike in spikes] == [(13, 11), (15, 11)]
    assert spikes[0].usual == spikes[1].usual, "what was usual when the checkpoint was written is so again"
    assert summary.skipped_steps == 4


SPIKING = ("optimizer.learning_rate=1e-4", "checkpoints.evaluations_per_epoch=0.01", "checkpoints.save_every_steps=11",
           "checkpoints.go_back_on_spike=true")  # fmt: skip


def spikes_from(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let each step from this one on have a loss far above the usual."""
    calls = 0

    def spiking(setup: Setup, rows: Sequence[Rows], *, max_norm: float | None) -> Learned:
        nonlocal calls
        calls += 1
        found = learn(setup, rows, max_norm=max_norm)
        return Learned(10 * found.loss, found.gradient_norm) if calls >= step else found

    monkeypatch.setattr(guards, "learn", spiking)


def test_a_run_goes_back_three_times_and_no_more(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """More would only begin again and again; the spikes are told all the same."""
    spikes_from(monkeypatch, 12)
    summary, events = start("run", *SPIKING, "schedule.max_steps=17")
    told = [(event.step, event.back_to) for event in events if isinstance(event, LossSpiked)]
    assert told == [(12, 11), (13, 11), (14, 11), (15, None), (16, None), (17, None)]
    assert summary.skipped_steps == 3
    assert len([remark for remark in summary.remarks if "went back" in remark]) == 3


def test_a_run_never_goes_back_to_a_checkpoint_that_is_damaged(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spikes_from(monkeypatch, 13)

    def damage() -> str | None:
        for file in (tmp_path / "run").glob("checkpoints/step-11/state/trained.safetensors"):
            file.write_bytes(file.read_bytes()[:-1] + b"x")
        return None

    summary, events = start("run", *SPIKING, "schedule.max_steps=13", asked_to_stop=damage)
    (spike,) = of(events, LossSpiked)
    assert isinstance(spike, LossSpiked)
    assert (spike.step, spike.back_to) == (13, None)
    assert summary.skipped_steps == 0


def test_a_spike_before_the_first_checkpoint_is_only_reported(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def spiking(setup: Setup, rows: Sequence[Rows], *, max_norm: float | None) -> Learned:
        nonlocal calls
        calls += 1
        found = learn(setup, rows, max_norm=max_norm)
        return Learned(10 * found.loss, found.gradient_norm) if calls == 12 else found

    monkeypatch.setattr(guards, "learn", spiking)
    summary, events = start("run", "schedule.max_steps=13", "optimizer.learning_rate=1e-4", "checkpoints.go_back_on_spike=true",
                            "checkpoints.evaluations_per_epoch=0.01")  # fmt: skip
    (spike,) = of(events, LossSpiked)
    assert isinstance(spike, LossSpiked)
    assert spike.back_to is None
    assert summary.skipped_steps == 0
