"""Norms that keep their input alone against those of transformers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

from finetune_exe.models import rms_norm as module
from finetune_exe.models.passes import ROUNDING
from finetune_exe.models.rms_norm import Form, norm_forms, rms_norm

KINDS = {
    LlamaRMSNorm: Form(1e-6, one_more=False, rounds_late=False),
    Olmo2RMSNorm: Form(1e-6, one_more=False, rounds_late=True),
    GemmaRMSNorm: Form(1e-6, one_more=True, rounds_late=True),
}
NEAR = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
"""Gradients are this near to those in float64, over their length."""


def norm_of(kind: type, width: int, dtype: torch.dtype) -> torch.nn.Module:
    norm = kind(width, eps=1e-6)
    torch.nn.init.normal_(norm.weight, std=0.3)
    return norm.to(dtype)


def exact(x: torch.Tensor, weight: torch.Tensor, form: Form) -> torch.Tensor:
    """The definition."""
    root = torch.sqrt(x.square().mean(-1, keepdim=True) + form.epsilon)
    return x / root * (weight + form.one_more)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", NEAR)
@given(
    rows=st.integers(1, 9), width=st.integers(1, 40), magnitude=st.sampled_from([1e-3, 1.0, 30.0]),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_values_are_the_same_to_the_bit_and_gradients_up_to_rounding(
    kind: type, dtype: torch.dtype, rows: int, width: int, magnitude: float, seed: int
) -> None:
    torch.manual_seed(seed)
    norm = norm_of(kind, width, dtype)
    x = (magnitude * torch.randn(rows, 2, width)).to(dtype).requires_grad_()
    upstream = torch.randn(rows, 2, width).to(dtype)
    ours = rms_norm(x, norm.weight, KINDS[kind])
    assert torch.equal(ours, norm(x))
    assert ours.dtype == dtype
    found = torch.autograd.grad(ours, [x, norm.weight], upstream)
    x64, weight64 = x.detach().double().requires_grad_(), norm.weight.detach().double().requires_grad_()
    wanted = torch.autograd.grad(exact(x64, weight64, KINDS[kind]), [x64, weight64], upstream.double())
    with torch.no_grad():  # what the gradients are differences of
        root = (x64.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        reach_x = (upstream.double() * (weight64 + KINDS[kind].one_more) / root).norm()
        reach_weight = (upstream.double() * x64 / root).norm()
    assert (found[0] - wanted[0]).norm() <= 2 * NEAR[dtype] * reach_x
    assert (found[1] - wanted[1]).norm() <= 2 * NEAR[dtype] * reach_weight


@pytest.fixture(params=["as transformers", "by kernels"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Compute norms as on a processor, or as on a GPU, with PyTorch's own definitions in the place of its kernels."""
    if request.param == "by kernels":
        gradient = torch._decomp.decomposition_table[torch.ops.aten._fused_rms_norm_backward.default]
        monkeypatch.setattr(torch.ops.aten, "_fused_rms_norm_backward", gradient)
        monkeypatch.setattr(module, "_has_kernels", lambda _: True)
    return str(request.param)


@pytest.mark.parametrize("one_more", [False, True])
def test_the_gradient_is_that_of_differences(one_more: bool, way: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 7, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, dtype=torch.float64, requires_grad=True)
    for late in (False, True):
        form = Form(1e-3, one_more=one_more, rounds_late=late)
        torch.autograd.gradcheck(lambda x, weight, form=form: rms_norm(x, weight, form), (x, weight))


@pytest.mark.parametrize("width", [64, 80])  # the root of 80 does not fit 16 bit
def test_gradients_in_16_bit_are_as_near_as_those_of_transformers(width: int, way: str) -> None:
    torch.manual_seed(0)
    norm = norm_of(LlamaRMSNorm, width, torch.bfloat16)
    x = torch.randn(200, width).bfloat16().requires_grad_()
    upstream = torch.randn(200, width).bfloat16()
    x64 = x.detach().double().requires_grad_()
    (wanted,) = torch.autograd.grad(exact(x64, norm.weight.double(), KINDS[LlamaRMSNorm]), x64, upstream.double())
    y, own = rms_norm(x, norm.weight, KINDS[LlamaRMSNorm]), norm(x)
    (ours,), (theirs,) = torch.autograd.grad(y, x, upstream), torch.autograd.grad(own, x, upstream)
    assert (ours - wanted).norm() <= 1.05 * (theirs - wanted).norm()
    assert (y - own).norm() <= (ROUNDING if way == "by kernels" else 0.0) * own.norm()


def test_where_a_norm_rounds_shows_on_a_gpu_too() -> None:
    """What is let pass there for another order of sums is less than what rounding before the weights or behind makes."""
    torch.manual_seed(0)
    x, weight = torch.randn(5, 2048).bfloat16(), torch.randn(2048).bfloat16()
    early, late = (rms_norm(x, weight, Form(1e-6, one_more=False, rounds_late=late)) for late in (False, True))
    assert (early - late).norm() > 4 * ROUNDING * late.norm()


def test_only_the_input_and_a_factor_for_each_token_are_kept() -> None:
    norm = norm_of(LlamaRMSNorm, 48, torch.bfloat16)
    norm.weight.requires_grad_(False)
    x = torch.randn(5, 48).bfloat16().requires_grad_()
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        rms_norm(x, norm.weight, KINDS[LlamaRMSNorm])
    assert sorted(tuple(tensor.shape) for tensor in kept) == [(5, 1), (5, 48), (48,)]
    assert any(tensor.data_ptr() == x.data_ptr() for tensor in kept)


def test_what_has_more_than_weights_and_an_epsilon_is_no_such_norm() -> None:
    assert KINDS[LlamaRMSNorm] in list(norm_forms(LlamaRMSNorm(8)))
    assert not list(norm_forms(torch.nn.LayerNorm(8)))
    assert not list(norm_forms(torch.nn.Linear(8, 8, bias=False)))


def test_an_input_that_lies_across_memory_has_the_same_gradients() -> None:
    """Mixtures of state spaces and attention give their norms parts of wider tensors."""
    torch.manual_seed(0)
    wide = torch.randn(2, 5, 24)
    found = []
    for x in (wide[..., 8:16].requires_grad_(), wide[..., 8:16].clone().requires_grad_()):
        y = rms_norm(x, torch.ones(8), Form(1e-6, one_more=False, rounds_late=False))
        found.append(torch.autograd.grad(y, x, wide[..., :8])[0])
    assert torch.equal(*found)
