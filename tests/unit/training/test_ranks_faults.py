"""What goes wrong in one of several processes is met by all of them together, or ends all of them in good order."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.training.conftest import MakePlan
from tests.unit.training.processes import results, start, together
from tests.unit.training.test_ranks import COMMON, learn_share, seen, weights

from finetune_exe.domain.events import AnyEvent, BatchShrunk, CheckpointSaved, StepFinished
from finetune_exe.domain.plan import Plan
from finetune_exe.errors import RESUMABLE
from finetune_exe.models.forward import LossFunction, RowLosses, Rows
from finetune_exe.models.ranks import Ranks
from finetune_exe.prepared.store import PreparedFolder, load_dataset
from finetune_exe.training.checkpoints import find_checkpoints
from finetune_exe.training.loop import train
from finetune_exe.training.resume import ALLOW_PLAN_CHANGE, find_resumption, plan_changes

Given = dict[str, Any]


def given(plan: Plan, data: PreparedFolder, base: Path) -> Given:
    return {"plan": plan.model_dump_json(by_alias=True), "data": str(data.path), "base": str(base)}


def spread(make: MakePlan, *settings: str, kind: str = "ddp", micro: int = 4) -> Plan:
    return make(*COMMON, f"batch.micro_batch_size={micro}", "batch.gradient_accumulation_steps=1",
                f"parallelism.kind={kind}", "parallelism.num_gpus=2", *settings)  # fmt: skip


def cramped(ranks: Ranks, *, plan: str, data: str, base: str, run: str, from_pass: int, most_rows: int) -> Given:
    """Train with too little memory in the second process, from one of its passes on; in step 3, the last of an epoch, it has none."""
    passes, call = 0, LossFunction.__call__

    def short_of_memory(self: LossFunction, rows: Rows) -> RowLosses:
        nonlocal passes
        if ranks.index == 1 and torch.is_grad_enabled():
            passes += 1
            if passes >= from_pass and len(rows.ids_BT) > most_rows:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.10 GiB")
        return call(self, rows)

    LossFunction.__call__ = short_of_memory  # type: ignore[method-assign]
    events: list[AnyEvent] = []
    summary = train(Plan.model_validate_json(plan), load_dataset(Path(data), verify=False), base=Path(base),
                    run=Path(run), emit=events.append)  # fmt: skip
    shrunk = [[event.step, event.micro_batch_size, event.gradient_accumulation_steps, event.reason]
              for event in events if isinstance(event, BatchShrunk)]  # fmt: skip
    left = sorted(path.name for path in (Path(run) / "checkpoints").iterdir())
    return seen(events) | {"shrunk": shrunk, "remarks": summary.remarks, "left": left}


@pytest.mark.parametrize(
    ("from_pass", "most_rows", "sizes"),
    [(1, 2, [(0, 2, 2)]), (4, 1, [(3, 2, 2), (3, 1, 4)])],
    ids=["in the rehearsal", "at the fourth step"],
)
def test_memory_that_runs_out_in_one_process_shrinks_the_passes_of_all(
    from_pass: int, most_rows: int, sizes: list[tuple[int, int, int]], make: MakePlan, data: PreparedFolder, base: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    alone: list[AnyEvent] = []
    plan = make(*COMMON, "batch.micro_batch_size=4", "batch.gradient_accumulation_steps=2")
    train(plan, data, base=base, run=tmp_path / "alone", emit=alone.append)
    wanted = seen(alone)
    found = together(cramped, tmp_path / "told", count=2, run=str(tmp_path / "run"), from_pass=from_pass,
                     most_rows=most_rows, **given(spread(make), data, base))  # fmt: skip
    for result in found:
        assert [tuple(event[:3]) for event in result["shrunk"]] == sizes
        assert result["losses"] == pytest.approx(wanted["losses"], rel=1e-5)
        assert result["tokens"] == wanted["tokens"]
        assert all(name.startswith("step-") for name in result["left"])
        assert result["remarks"]
    assert "another process" in found[0]["shrunk"][0][3]
    assert "CUDA out of memory" in found[1]["shrunk"][0][3]


def test_parts_of_one_model_cannot_go_back_and_say_with_what_settings_to_go_on(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    plan = spread(make, "method.kind=full", kind="fsdp")
    _, second = results(
        start(cramped, tmp_path, count=2, timeout=5.0, run=str(tmp_path / "run"), from_pass=1, most_rows=2,
              **given(plan, data, base)), tmp_path)  # fmt: skip
    assert second["code"] == "T14"
    assert "CUDA out of memory" in second["why"]
    assert "process 1 of 2" in second["where"]


def stops_in_backward(ranks: Ranks, *, plan: str, data: str, base: str, run: str) -> Given:
    """Train until the last process is stopped while it computes gradients of its fourth pass."""
    passes, call = 0, LossFunction.__call__

    def stopping(self: LossFunction, rows: Rows) -> RowLosses:
        nonlocal passes
        found = call(self, rows)
        passes += torch.is_grad_enabled()
        if ranks.index == 1 and passes == 4 and found.nll_N.requires_grad:
            found.nll_N.register_hook(lambda _: os.kill(os.getpid(), signal.SIGSTOP))
        return found

    LossFunction.__call__ = stopping  # type: ignore[method-assign]
    train(Plan.model_validate_json(plan), load_dataset(Path(data), verify=False), base=Path(base), run=Path(run),
          emit=lambda _: None)  # fmt: skip
    return {}


def test_one_that_stops_within_the_gradients_of_a_model_cut_up_is_named(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    plan = spread(make, "method.kind=full", kind="fsdp")
    first, second = start(stops_in_backward, tmp_path, count=2, timeout=4.0, run=str(tmp_path / "run"),
                          **given(plan, data, base))  # fmt: skip
    first.join(60)
    status = first.exitcode
    results([first, second], tmp_path, seconds=0.1)
    assert status == RESUMABLE
    told = (tmp_path / "rank-0.err").read_text()
    assert "a process of this training hangs: process 1, stopped by a signal in this meeting" in told


def one_killed(ranks: Ranks, *, plan: str, data: str, base: str, run: str, after: int) -> Given:
    """Train until the last process is killed within a step."""

    def emit(event: AnyEvent) -> None:
        if isinstance(event, StepFinished) and event.step == after and ranks.index == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    train(Plan.model_validate_json(plan), load_dataset(Path(data), verify=False), base=Path(base), run=Path(run),
          emit=emit)  # fmt: skip
    return {}


def test_a_job_that_lost_a_process_goes_on_from_its_checkpoint_to_the_same_weights(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    plan = spread(make, "method.lora_dropout=0.2", "schedule.max_steps=6", "checkpoints.save_every_steps=1")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    wanted = together(learn_share, tmp_path / "a", count=2, run=str(whole), **given(plan, data, base))
    first, second = results(
        start(one_killed, tmp_path / "b", count=2, run=str(broken), after=4, **given(plan, data, base)), tmp_path / "b"
    )
    assert second is None
    assert first["code"] == "T21"
    kept = find_checkpoints(broken).whole[0].manifest.step
    assert kept == 3, "the step that was lost comes again"
    found = together(learn_share, tmp_path / "c", count=2, run=str(broken), resume=True, **given(plan, data, base))
    assert found[0]["losses"] == wanted[0]["losses"][kept:]
    assert torch.equal(weights(broken, found[0]["checkpoint"]), weights(whole, wanted[0]["checkpoint"]))


def test_a_run_of_two_goes_on_with_one_where_that_is_wanted(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    plan, run = spread(make), tmp_path / "run"
    alone = make(*COMMON, "batch.micro_batch_size=4", "batch.gradient_accumulation_steps=2")
    for stopped in together(
        learn_share, tmp_path / "a", count=2, run=str(run), stop_after=2, **given(plan, data, base)
    ):
        assert stopped["code"] == "T11"
    manifest = find_checkpoints(run).whole[0].manifest
    changes = {change.name: change for change in plan_changes(manifest, alone)}
    assert {change.flag for change in changes.values()} == {ALLOW_PLAN_CHANGE}
    assert "dropout" in changes["parallelism.num_gpus"].effect
    fewer_rows = make(*COMMON, "batch.micro_batch_size=4", "batch.gradient_accumulation_steps=1")
    assert {c.name: c.flag for c in plan_changes(manifest, fewer_rows)}["parallelism.num_gpus"] is None
    events: list[AnyEvent] = []
    train(alone, data, base=base, run=run, emit=events.append, resumption=find_resumption(run))
    wanted: list[AnyEvent] = []
    train(alone, data, base=base, run=tmp_path / "alone", emit=wanted.append)
    assert seen(events)["losses"] == pytest.approx(seen(wanted)["losses"][2:], rel=1e-5)


def clocks_apart(ranks: Ranks, *, plan: str, data: str, base: str, run: str) -> Given:
    """Train where a minute has passed for the first process at its second step, and never for the others."""
    events: list[AnyEvent] = []

    def clock() -> float:
        return 61.0 * (ranks.is_first and len(seen(events)["losses"]) >= 2)

    train(Plan.model_validate_json(plan), load_dataset(Path(data), verify=False), base=Path(base), run=Path(run),
          emit=events.append, clock=clock)  # fmt: skip
    return seen(events) | {"saved": [event.step for event in events if isinstance(event, CheckpointSaved)]}


@pytest.mark.parametrize(("kind", "method"), [("fsdp", "full"), ("ddp", "lora")])
def test_all_processes_save_when_the_clock_of_the_first_says_so(
    kind: str, method: str, make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    plan = spread(make, f"method.kind={method}", "schedule.max_steps=4", "checkpoints.evaluations_per_epoch=1",
                  "checkpoints.save_every_minutes=1", kind=kind)  # fmt: skip
    found = together(clocks_apart, tmp_path, count=2, run=str(tmp_path / "run"), **given(plan, data, base))
    assert found[0]["saved"] == [2, 4]
    assert found[1] == found[0]
