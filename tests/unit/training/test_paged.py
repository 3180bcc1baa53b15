"""Paged states of a run that goes on are paged again, and the same to the last bit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bitsandbytes import functional

from finetune_exe.domain.plan import Full, Lora, Method, Optimizer
from finetune_exe.training.masters import MasterWeights
from finetune_exe.training.optimizers import Group, make_optimizer
from finetune_exe.training.paged import PagedAdamW
from finetune_exe.training.state import restore_state, save_state

LARGE, SMALL = (400, 256), (64, 80)
"""More numbers than bitsandbytes pages from on, and fewer."""


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no NVIDIA GPU"))])  # fmt: skip
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A GPU; without one, pages of the processor's memory that bear the same marks and are made by the same call."""
    if request.param == "cpu":

        def buffer(self: Any, like: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            made = torch.zeros_like(like, dtype=dtype)
            made.is_paged = like.numel() >= 1e5  # type: ignore[attr-defined]
            return made

        monkeypatch.setattr(PagedAdamW, "get_state_buffer", buffer)
        monkeypatch.setattr(functional, "prefetch_tensor", lambda *_: None)
    return str(request.param)


def begin(method: Method, device: str) -> Any:
    torch.manual_seed(0)
    model = torch.nn.ParameterDict({
        name: torch.nn.Parameter(torch.randn(*size, device=device)) for name, size in (("a", LARGE), ("b", SMALL))
    })  # fmt: skip
    group = Group(params=list(model.values()), weight_decay=0.1, lr_ratio=1.0)
    optimizer = make_optimizer(Optimizer(kind="paged_adamw_8bit", learning_rate=1e-2), [group], method)
    return SimpleNamespace(model=model, optimizer=optimizer, scaler=torch.amp.GradScaler(device, enabled=False),
                           device=device)  # fmt: skip


def move(setup: Any, steps: range) -> None:
    for step in steps:
        draw = torch.Generator().manual_seed(step)
        for parameter in setup.model.values():
            parameter.grad = torch.randn(parameter.shape, generator=draw).to(parameter)
        setup.optimizer.step()


def paged(setup: Any) -> list[torch.Tensor]:
    inner = setup.optimizer.inner if isinstance(setup.optimizer, MasterWeights) else setup.optimizer
    states = [state for parameter in inner.param_groups[0]["params"] for state in [inner.state[parameter]]]
    assert [state["state1"].dtype for state in states] == [torch.uint8, torch.uint8]
    assert not any(getattr(states[1][name], "is_paged", False) for name in ("state1", "state2"))
    found = [states[0][name] for name in ("state1", "state2")]
    assert all(value.is_paged for value in found)
    return found


@pytest.mark.parametrize("method", [Lora(), Full(masters="split")])
def test_a_state_that_goes_on_is_paged_and_the_same(method: Method, device: str, tmp_path: Path) -> None:
    whole = begin(method, device)
    move(whole, range(3))
    save_state(whole, tmp_path)
    kept = [value.clone() for value in paged(whole)]
    resumed = begin(method, device)
    restore_state(resumed, tmp_path)
    assert all(torch.equal(one, other) for one, other in zip(paged(resumed), kept, strict=True))
    move(whole, range(3, 6))
    move(resumed, range(3, 6))
    assert all(torch.equal(one, other) for one, other in zip(paged(resumed), paged(whole), strict=True))
    assert all(torch.equal(resumed.model[name], whole.model[name]) for name in "ab")


def test_a_run_that_goes_back_uses_the_pages_that_it_has(device: str, tmp_path: Path) -> None:
    setup = begin(Lora(), device)
    move(setup, range(2))
    save_state(setup, tmp_path)
    pages, before = paged(setup), [value.clone() for value in paged(setup)]
    move(setup, range(2, 4))
    restore_state(setup, tmp_path)
    assert all(one is other for one, other in zip(paged(setup), pages, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(pages, before, strict=True))
