"""What is done on a GPU alone, as far as it shows without one."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tests.unit.training.conftest import MakePlan

from finetune_exe.models import packing
from finetune_exe.models import ranks as ranks_module
from finetune_exe.models.forward import LossFunction, RowLosses, Rows
from finetune_exe.models.rank_watch import RankWatch
from finetune_exe.models.ranks import Ranks
from finetune_exe.prepared.store import PreparedFolder
from finetune_exe.training import looks
from finetune_exe.training.course import begin
from finetune_exe.training.loop import train
from finetune_exe.training.setup import set_up
from finetune_exe.training.state import restore_state, save_state


class Watch:
    """Says whether this process is waiting for the others."""

    is_waiting = False

    @contextmanager
    def waiting(self, label: str) -> Iterator[None]:
        self.is_waiting = True
        yield
        self.is_waiting = False


def test_a_gpu_is_waited_for_where_a_process_that_hangs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL's calls come back before the others have come."""
    watch, waited = Watch(), list[bool]()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(watch.is_waiting))
    with Ranks(count=2, watch=cast(RankWatch, watch)).meeting("gradients"):
        assert not waited
    assert waited == [True]


@pytest.mark.parametrize(
    ("gpu", "nccl", "backend"),
    [(True, True, "cpu:gloo,cuda:nccl"), (True, False, "gloo"), (False, True, "gloo"), (False, False, "gloo")],
)
def test_processes_talk_by_what_pytorch_brings(
    gpu: bool, nccl: bool, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: nccl)
    assert ranks_module._backend() == backend


def test_a_model_is_tried_in_exact_float32_whatever_it_then_trains_in(
    make: MakePlan, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows in TF32 that are packed differ from rows alone by more than float32 rounds: packing would be refused."""
    products, tried, real = torch.backends.cuda.matmul, list[str](), packing._hidden

    def hidden(*given: Any, **named: Any) -> torch.Tensor:
        tried.append(products.fp32_precision)
        return real(*given, **named)

    monkeypatch.setattr(packing, "_hidden", hidden)
    for _ in range(2):
        set_up(make("precision.tf32=true", "batch.packing=true"), base)
        assert products.fp32_precision == "tf32"
    assert set(tried) == {"ieee"}
    set_up(make("precision.tf32=false"), base)
    assert products.fp32_precision == "ieee"


def test_memory_is_given_back_once_nothing_holds_it_any_more(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault that is being handled keeps all that was computed where it was raised."""
    handled: list[BaseException | None] = []

    def none_left(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.10 GiB")

    monkeypatch.setattr(looks, "generate", none_left)
    monkeypatch.setattr(looks, "release_memory", lambda _: handled.append(sys.exception()))
    plan = make("schedule.max_steps=1", "checkpoints.samples_per_evaluation=2")
    train(plan, data, base=base, run=tmp_path, emit=lambda _: None)
    assert handled == [None]


def test_random_numbers_of_a_gpu_go_on_where_they_were(
    make: MakePlan, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator of its own stands for the GPU's."""
    gpu = torch.Generator().manual_seed(5)
    monkeypatch.setattr(torch.cuda, "get_rng_state", gpu.get_state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", gpu.set_state)
    setup = replace(set_up(make(), base), device="cuda")
    save_state(setup, tmp_path)
    wanted = torch.randn(9, generator=gpu)
    for is_there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=is_there: there)
        restore_state(setup, tmp_path)
        assert torch.equal(torch.randn(9, generator=gpu), wanted) == is_there


def test_a_pass_that_ran_out_of_memory_is_given_back_before_the_next(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was computed up to there may be most of the memory; half the rows would not fit beside it."""
    computed, real = list[weakref.ref[torch.Tensor]](), LossFunction.__call__

    def cramped(self: LossFunction, rows: Rows) -> RowLosses:
        if computed:
            assert len(rows.ids_BT) > 2 or computed[0]() is None
            return real(self, rows)
        found = real(self, rows)
        computed.append(weakref.ref(found.nll_N))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.10 GiB")

    course = begin(
        make("batch.micro_batch_size=4"), data, base=base, run=tmp_path, emit=lambda _: None, resumption=None,
        rehearse=False, clock=lambda: 0.0,
    )  # fmt: skip
    monkeypatch.setattr(LossFunction, "__call__", cramped)
    gc.disable()
    try:
        course.guards.attempt([[0, 1, 2, 3]], max_norm=None)
    finally:
        gc.enable()
    assert course.guards.micro_batch_size == 2
