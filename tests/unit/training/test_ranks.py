"""Several processes on one processor learn what one process learns, and end in good order where one is lost."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.unit.training.conftest import MakePlan
from tests.unit.training.processes import results, start, together

from finetune_exe.domain.events import AnyEvent, Evaluated, StepFinished
from finetune_exe.domain.plan import Plan
from finetune_exe.errors import RESUMABLE, FineTuneError
from finetune_exe.models import ranks as ranks_module
from finetune_exe.models.rank_watch import RankWatch
from finetune_exe.models.ranks import ALONE, Ranks, find_place, meeting_point
from finetune_exe.prepared.store import PreparedFolder, load_dataset
from finetune_exe.training.checkpoints import find_checkpoints
from finetune_exe.training.loop import train
from finetune_exe.training.resume import find_resumption

COMMON = ("schedule.max_steps=4", "optimizer.learning_rate=1e-3", "checkpoints.evaluations_per_epoch=2")


def learn_share(
    ranks: Ranks, *, plan: str, data: str, base: str, run: str, stop_after: int | None = None, resume: bool = False
) -> dict[str, Any]:
    """Train as one of several processes, and tell what this one saw; the last one may be asked to stop on the way."""
    events: list[AnyEvent] = []
    made = Plan.model_validate_json(plan)
    folder = load_dataset(Path(data), verify=False)

    def asked_to_stop() -> str | None:
        done = len(seen(events)["losses"])
        return "SIGTERM" if done == stop_after and ranks.index == ranks.count - 1 else None

    resumption = find_resumption(Path(run)) if resume else None
    summary = train(made, folder, base=Path(base), run=Path(run), emit=events.append, resumption=resumption,
                    asked_to_stop=asked_to_stop)  # fmt: skip
    return seen(events) | {"checkpoint": summary.checkpoint, "learned": summary.learned_tokens}


def seen(events: list[AnyEvent]) -> dict[str, Any]:
    steps = [event for event in events if isinstance(event, StepFinished)]
    return {
        "losses": [event.loss for event in steps],
        "norms": [event.gradient_norm for event in steps],
        "tokens": [[event.learned_tokens, event.processed_tokens, event.shared_tokens] for event in steps],
        "validation": [event.validation_loss for event in events if isinstance(event, Evaluated)],
    }


def weights(run: Path, checkpoint: str) -> torch.Tensor:
    (file,) = (run / checkpoint).glob("*model.safetensors")
    return torch.cat([tensor.flatten() for _, tensor in sorted(load_file(file).items())])


@pytest.mark.parametrize(
    ("kind", "method", "count", "micro", "packing"),
    [
        ("ddp", "lora", 2, 3, "true"),
        ("ddp", "full", 2, 2, "false"),
        ("ddp", "lora", 4, 5, "false"),
        ("fsdp", "full", 2, 5, "true"),
        ("fsdp", "lora", 2, 2, "false"),
        ("ddp", "qlora", 2, 3, "false"),
    ],
)
def test_processes_learn_together_what_one_learns_alone(
    kind: str, method: str, count: int, micro: int, packing: str, make: MakePlan, data: PreparedFolder, base: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Also where the last step of an epoch has fewer micro-batches than processes: 4 times 5 rows do not divide 48.

    An adapter that begins with something begins with the same everywhere.
    """
    offset = ("method.offset_rounding=true",) if method == "qlora" else ()
    sizes = (f"method.kind={method}", *offset, f"batch.micro_batch_size={micro}", f"batch.packing={packing}")
    alone = make(*COMMON, *sizes, f"batch.gradient_accumulation_steps={count}")
    events: list[AnyEvent] = []
    summary = train(alone, data, base=base, run=tmp_path / "alone", emit=events.append)
    wanted = seen(events)

    spread = make(*COMMON, *sizes, "batch.gradient_accumulation_steps=1", f"parallelism.kind={kind}",
                  f"parallelism.num_gpus={count}")  # fmt: skip
    found = together(
        learn_share, tmp_path / "told", count=count, plan=spread.model_dump_json(by_alias=True), data=str(data.path),
        base=str(base), run=str(tmp_path / "together"),
    )  # fmt: skip
    for result in found:
        assert result["losses"] == pytest.approx(wanted["losses"], rel=1e-5)
        assert result["norms"] == pytest.approx(wanted["norms"], rel=1e-5)
        assert result["validation"] == pytest.approx(wanted["validation"], rel=1e-5)
        assert result["tokens"] == wanted["tokens"]
        assert result["learned"] == summary.learned_tokens
        assert result == found[0], "all processes have the same sums"
    one, many = weights(tmp_path / "alone", summary.checkpoint), weights(tmp_path / "together", found[0]["checkpoint"])
    assert (one - many).norm() <= 1e-5 * one.norm()
    for run in ("alone", "together"):
        assert find_checkpoints(tmp_path / run).whole[0].manifest.progress.empty_passes == 0


@pytest.mark.parametrize(("kind", "method"), [("ddp", "lora"), ("fsdp", "full")])
def test_processes_that_were_stopped_go_on_as_if_they_had_not_been(
    kind: str, method: str, make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    """To the last bit, dropout of each process included; one of them asked to stop stops all."""
    dropout = ("method.lora_dropout=0.2",) if method == "lora" else ()
    plan = make(*COMMON, f"method.kind={method}", *dropout, "schedule.max_steps=6", "batch.micro_batch_size=2",
                f"parallelism.kind={kind}", "parallelism.num_gpus=2")  # fmt: skip
    given = {"plan": plan.model_dump_json(by_alias=True), "data": str(data.path), "base": str(base)}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    wanted = together(learn_share, tmp_path / "a", count=2, run=str(whole), **given)
    for stopped in together(learn_share, tmp_path / "b", count=2, run=str(parts), stop_after=3, **given):
        assert stopped["code"] == "T11"
    found = together(learn_share, tmp_path / "c", count=2, run=str(parts), resume=True, **given)
    for one, other in zip(found, wanted, strict=True):
        assert one["losses"] == other["losses"][3:]
        assert one["learned"] == other["learned"]
    assert torch.equal(weights(parts, found[0]["checkpoint"]), weights(whole, wanted[0]["checkpoint"]))


def sums(ranks: Ranks) -> dict[str, Any]:
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (3, 5)]
    parameters[0].grad = torch.full((3,), float(ranks.index + 1))  # the other has no gradient, in no process
    ranks.add_gradients(parameters)
    parameters[0].data.fill_(ranks.index)
    ranks.begin_alike(parameters)
    return {
        "totals": ranks.totals(1e-9, ranks.index, 2.0**53),
        "largest": ranks.largest(-1.0 - ranks.index),
        "any": [ranks.any(ranks.index == 1), ranks.any(False)],
        "gradient": [parameter.grad.tolist() for parameter in parameters if parameter.grad is not None],
        "first": parameters[0].tolist(),
        "share": ranks.share([0, 1, 2, 3, 4]),
        "idle": [ranks.idle_passes(5), replace(ranks, is_sharded=True).idle_passes(5)],
    }


def test_sums_are_those_of_all_and_shares_leave_nothing_out(tmp_path: Path) -> None:
    first, second = together(sums, tmp_path, count=2)
    assert first["share"] == [0, 2, 4]
    assert second["share"] == [1, 3]
    assert (first.pop("idle"), second.pop("idle")) == ([0, 0], [0, 1])
    del first["share"], second["share"]
    assert first == second
    assert first == {
        "totals": [2e-9, 1.0, 2.0**54], "largest": -1.0, "any": [True, False],
        "gradient": [[3.0] * 3, [0.0] * 5], "first": [0.0] * 3,
    }  # fmt: skip


def drawn(ranks: Ranks) -> list[list[float]]:
    """What this process draws in two steps, in the first of them again, and with another seed."""
    found = []
    for seed, step in ((7, 1), (7, 2), (7, 1), (8, 1)):
        ranks.reseed(seed, step)
        found.append(torch.rand(4).tolist())
    return found


def test_each_process_drops_other_inputs_and_in_each_step_others(tmp_path: Path) -> None:
    """Its random numbers follow from seed and step alone, so that a resumed run has the same."""
    for first, second, again, other_seed in together(drawn, tmp_path, count=2):
        assert again == first
        assert len({tuple(first), tuple(second), tuple(other_seed)}) == 3
    of_first, of_second = together(drawn, tmp_path / "again", count=2)
    assert all(one != other for one in of_first for other in of_second)


def test_alone_everything_is_given_back() -> None:
    assert ALONE.totals(1.0, 2.0) == (1.0, 2.0)
    assert (ALONE.largest(-1.0), ALONE.any(True), ALONE.any(False)) == (-1.0, True, False)
    assert (ALONE.share([1, 2]), ALONE.idle_passes(2), ALONE.is_first) == ([1, 2], 0, True)
    ALONE.announce(True)
    assert ALONE.wait_for_first()
    assert (ALONE.agree(None), ALONE.agree("SIGTERM")) == (None, "SIGTERM")


def die_at_three(ranks: Ranks, *, how: str) -> str:
    for number in range(5):
        if number == 3 and ranks.index == 1:
            os.kill(os.getpid(), getattr(signal, how))
        ranks.totals(1.0)
    return "done"


def test_the_others_leave_where_one_is_killed(tmp_path: Path) -> None:
    first, second, third = results(start(die_at_three, tmp_path, count=3, how="SIGKILL"), tmp_path)
    assert second is None
    for lost in (first, third):
        assert lost["code"] == "T21"
        assert "gone" in lost["what"]


def test_one_that_hangs_is_named_by_the_others(tmp_path: Path) -> None:
    processes = start(die_at_three, tmp_path, count=3, timeout=1.5, how="SIGSTOP")
    for index in (0, 2):
        processes[index].join(30)
    statuses = [process.exitcode for process in processes]
    results(processes, tmp_path, seconds=0.1)
    assert statuses == [RESUMABLE, None, RESUMABLE]
    for index in (0, 2):
        told = (tmp_path / f"rank-{index}.err").read_text().partition("\n")[0]
        assert told == "error[FT-T21]: a process of this training hangs: process 1, last seen at meeting 3 (sums)"
        assert "stopped by a signal" in (tmp_path / f"rank-{index}.err").read_text()


def a_step_that_never_ends(seconds: float) -> None:
    time.sleep(seconds)


def first_dies(ranks: Ranks) -> str:
    """Lose the process that keeps what all have written down, while the others compute on their own."""
    ranks.totals(1.0)
    if ranks.index == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(2.0)
    ranks.totals(1.0)
    return "done"


def test_the_others_say_so_where_the_first_is_killed_between_two_meetings(tmp_path: Path) -> None:
    found = results(start(first_dies, tmp_path, count=3, timeout=5.0), tmp_path)
    assert found[0] is None
    assert [result["code"] for result in found[1:]] == ["T21", "T21"], found


def oversleep(ranks: Ranks) -> str:
    """Come to three meetings; the second process sleeps where the fourth would be."""
    for _ in range(3):
        ranks.totals(1.0)
    if ranks.index == 1:
        a_step_that_never_ends(120.0)
    ranks.totals(1.0)
    return "done"


def test_the_line_at_which_one_hangs_is_told(tmp_path: Path) -> None:
    first, second = start(oversleep, tmp_path, count=2, timeout=2.0)
    first.join(30)
    assert first.exitcode == RESUMABLE
    pid = second.pid
    second.kill()
    second.join()
    what, where, *_ = (tmp_path / "rank-0.err").read_text().splitlines()
    assert what.endswith("process 1, last seen at meeting 3 (sums)")
    line = next(number for number, text in enumerate(Path(__file__).read_text().splitlines(), start=1)
                if text == "    time.sleep(seconds)")  # fmt: skip
    assert f"process 1 (pid {pid} on {socket.gethostname()}), in " in where
    assert f"training/test_ranks.py:{line} a_step_that_never_ends; process 0 waited 2 s for it at meeting 4" in where


class Notes:
    """A store of one process: what was set is there."""

    def __init__(self) -> None:
        self.notes: dict[str, bytes] = {}

    def set(self, key: str, value: str) -> None:
        self.notes[key] = value.encode()

    def get(self, key: str) -> bytes:
        return self.notes[key]

    def check(self, keys: list[str]) -> bool:
        return set(keys) <= set(self.notes)


def test_the_watch_is_quiet_while_everybody_comes_in_time() -> None:
    store, left = Notes(), list[str]()
    watch = RankWatch(store, index=0, count=3, timeout=0.3, leave=left.append)
    for _ in range(3):
        with watch.waiting("sums"):
            time.sleep(0.05)
    time.sleep(0.7)
    assert not left
    store.set("at/1", "4 gradients")
    with watch.waiting("gradients"):
        time.sleep(1.5)
    watch.close()
    (message,) = left
    assert "process 2, last seen at no meeting" in message
    assert "process 1" not in message


@pytest.mark.parametrize(
    ("environment", "taken"),
    [({"LOCAL_RANK": "3"}, 3), ({"SLURM_LOCALID": "5"}, 1), ({"LOCAL_RANK": "0", "SLURM_LOCALID": "2"}, 0), ({}, 0)],
)
def test_each_process_takes_a_gpu_of_its_own(
    environment: Mapping[str, str], taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four that all see, as under a torchrun that hides none."""
    found: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", found.append)
    ranks_module._take_gpu(environment)
    assert found == [taken]


GOOD = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, None),
        (GOOD, (1, 4, "a", 29500)),
        ({"WORLD_SIZE": "1", "RANK": "0"}, None),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, None),
        (
            {"SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8", "MASTER_ADDR": "b",
             "MASTER_PORT": "1"},
            (3, 8, "b", 1),
        ),
    ],
)  # fmt: skip
def test_the_place_is_read_from_torchrun_and_slurm(
    environment: Mapping[str, str], place: tuple[int, int, str, int] | None
) -> None:
    """A batch script of SLURM without srun is one process, whatever the job's number of tasks."""
    assert find_place(environment) == place


@pytest.mark.parametrize(
    "change", [{"RANK": "4"}, {"RANK": "x"}, {"MASTER_PORT": "0"}, {"MASTER_PORT": ""}, {"WORLD_SIZE": "-2"}]
)
def test_an_environment_that_contradicts_itself_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(FineTuneError, match=r"error\[FT-T22\]") as caught:
        find_place({**GOOD, **change})
    assert all(f"{name}={value or '(not set)'}" in caught.value.where for name, value in change.items())
    with pytest.raises(FineTuneError, match=r"error\[FT-T22\].*"):
        find_place({name: value for name, value in GOOD.items() if name != "MASTER_ADDR"})


def test_a_meeting_point_is_held_for_as_long_as_it_lives() -> None:
    point = meeting_point()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("", point.port))
