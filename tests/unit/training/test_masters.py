"""Weights in bfloat16 learn what weights in float32 learn, where plain rounding learns nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny import VOCABULARY

from finetune_exe.domain.plan import Full, Optimizer, Precision
from finetune_exe.models.forward import LossFunction, Rows, collate
from finetune_exe.models.load import load_base
from finetune_exe.training.masters import MasterWeights, join, round_at_random, split
from finetune_exe.training.optimizers import Group, make_optimizer, parameter_groups

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**126), max_value=2.0**126)


@given(numbers=st.lists(FINITE, min_size=1, max_size=40))
@settings(max_examples=200, deadline=None)
def test_two_halves_are_the_whole_bit_for_bit(numbers: list[float]) -> None:
    whole = torch.tensor(numbers, dtype=torch.float32)
    near, missing = split(whole)
    assert near.dtype == torch.bfloat16
    assert missing.dtype == torch.int16
    assert torch.equal(join(near, missing).view(torch.int32), whole.view(torch.int32))
    usual = whole.to(torch.bfloat16)
    assert bool(((near.double() - whole.double()).abs() <= (usual.double() - whole.double()).abs()).all())


@given(number=FINITE)
@settings(max_examples=50, deadline=None)
def test_rounding_at_random_takes_a_neighbour(number: float) -> None:
    whole = torch.tensor([number], dtype=torch.float32)
    below = (whole.view(torch.int32) & -65536).view(torch.float32)
    rounded = round_at_random(whole.repeat(20)).float()
    beyond = (below.view(torch.int32) + 65536).view(torch.float32)
    assert bool(((rounded == below) | ((rounded == beyond) & (whole != below))).all())


@pytest.mark.parametrize("number", [1.001, -0.0123, 3e-5, 1.00390625])
def test_rounding_at_random_keeps_the_mean(number: float) -> None:
    torch.manual_seed(0)
    many = round_at_random(torch.full((200_000,), number)).double()
    spread = float(many.std()) / 200_000**0.5
    assert abs(float(many.mean()) - float(torch.tensor(number))) <= 5 * spread + 1e-12


def some_rows() -> Rows:
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(6, VOCABULARY, (length,), generator=generator).numpy() for length in (12, 7, 9)]
    return collate([(row, row > 20) for row in ids], pad_token_id=0, device="cpu")


def course(base: Path, kind: str, *, steps: int = 40, rate: float = 5e-5) -> list[float]:
    """Losses of a model whose every weight is trained, kept in this way."""
    torch.manual_seed(0)
    model = load_base(base, Full(), dtype="float32", device="cpu").requires_grad_(True)
    method: Any = Full() if kind in ("naive", "float32") else Full(masters=kind)  # type: ignore[arg-type]
    if kind == "naive":
        model.to(torch.bfloat16)
    groups = parameter_groups(model.named_parameters(), method, weight_decay=0.0)
    optimizer = make_optimizer(Optimizer(learning_rate=rate), groups, method)
    losses = LossFunction(model, Precision(base_dtype="bfloat16"), device="cpu")
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = losses(some_rows()).nll_N.mean()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


def test_what_rounding_takes_back_is_learned_all_the_same(base: Path) -> None:
    """Steps of 5e-5 on weights around 0.2, which lie 1e-3 apart in bfloat16."""
    fall = {kind: found[0] - found[-1] for kind in ("float32", "naive", "split", "stochastic")
            for found in [course(base, kind)]}  # fmt: skip
    assert fall["float32"] > 0.05
    assert fall["naive"] < 0.5 * fall["float32"]
    assert fall["split"] == pytest.approx(fall["float32"], rel=0.15)
    assert fall["stochastic"] == pytest.approx(fall["float32"], rel=0.3)


@pytest.mark.parametrize("optimizer", ["adamw", "adamw_8bit", "lion", "adafactor"])
def test_kept_masters_are_those_of_float32_to_the_last_bit(optimizer: Any) -> None:
    torch.manual_seed(3)
    start = torch.randn(64, 96)
    gradients = [torch.randn(64, 96).bfloat16() for _ in range(6)]
    whole = torch.nn.Parameter(start.clone())
    halves = torch.nn.Parameter(start.clone())
    settings = Optimizer(kind=optimizer, learning_rate=1e-3)
    plain = make_optimizer(settings, [Group(params=[whole], weight_decay=0.1, lr_ratio=1.0)], Full())
    kept = make_optimizer(settings, [Group(params=[halves], weight_decay=0.1, lr_ratio=1.0)], Full(masters="split"))
    assert isinstance(kept, MasterWeights)
    for gradient in gradients:
        whole.grad, halves.grad = gradient.float(), gradient.clone()
        plain.step()
        kept.step()
        kept.zero_grad()
    (missing,) = kept.missing
    assert missing is not None
    assert halves.dtype == torch.bfloat16
    assert torch.equal(join(halves.data, missing), whole.data)


@pytest.mark.parametrize("optimizer", ["adamw", "adamw_8bit", "lion"])
@pytest.mark.parametrize("masters", ["split", "stochastic"])
def test_states_go_on_where_they_were(masters: Any, optimizer: Any) -> None:
    """Weights are saved with the model, states and missing bits with the optimizer."""
    torch.manual_seed(4)
    start = torch.randn(80, 96)
    gradients = [torch.randn(80, 96).bfloat16() for _ in range(6)]

    def fresh(value: torch.Tensor) -> tuple[torch.nn.Parameter, Any]:
        weight = torch.nn.Parameter(value.clone())
        groups = [Group(params=[weight], weight_decay=0.1, lr_ratio=1.0)]
        settings = Optimizer(kind=optimizer, learning_rate=1e-3)
        return weight, make_optimizer(settings, groups, Full(masters=masters))

    def learn(weight: torch.nn.Parameter, found: Any, parts: list[torch.Tensor], seed: int) -> None:
        torch.manual_seed(seed)
        for gradient in parts:
            weight.grad = gradient.clone()
            found.step()

    weight, found = fresh(start)
    learn(weight, found, gradients[:3], 7)
    state, at = found.state_dict(), weight.data.clone()
    copied = {
        key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in state["state"][0].items()
    }
    again, resumed = fresh(at.float())
    learn(again, resumed, gradients[:1], 9)
    again.data = at.clone()
    resumed.load_state_dict({**state, "state": {0: copied}})
    learn(weight, found, gradients[3:], 8)
    learn(again, resumed, gradients[3:], 8)
    assert torch.equal(weight.data, again.data)
    if masters == "split":
        assert torch.equal(found.missing[0], resumed.missing[0])


def test_missing_bits_that_are_loaded_lie_where_the_weights_do() -> None:
    """A checkpoint is read on the processor; a step on a GPU would fail. A device without numbers stands for one."""
    weight = torch.nn.Parameter(torch.empty(80, 96, device="meta"))
    groups = [Group(params=[weight], weight_decay=0.1, lr_ratio=1.0)]
    found = make_optimizer(Optimizer(kind="adafactor"), groups, Full(masters="split"))
    read = torch.zeros(80, 96, dtype=torch.int16)
    found.load_state_dict({**found.state_dict(), "state": {0: {"missing": read}}})
    assert found.missing[0].device == weight.device
