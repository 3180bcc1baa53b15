"""What is done on a GPU alone, as far as it shows without one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tests.unit.training.conftest import MakePlan

from finetune_exe.models import packing
from finetune_exe.models import ranks as ranks_module
from finetune_exe.models.rank_watch import RankWatch
from finetune_exe.models.ranks import Ranks
from finetune_exe.prepared.store import PreparedFolder
from finetune_exe.training import looks
from finetune_exe.training.loop import train
from finetune_exe.training.setup import set_up


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
