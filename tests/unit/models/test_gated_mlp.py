"""Gated MLPs as one function against those of transformers and PEFT."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import GemmaConfig, LlamaConfig
from transformers.models.gemma.modeling_gemma import GemmaMLP
from transformers.models.llama.modeling_llama import LlamaMLP

from finetune_exe.models.factors import Factors
from finetune_exe.models.gated_mlp import ACTIVATIONS, gated_mlp, layers_of
from finetune_exe.models.low_rank_layer import FastLinear, compute_adapters_fast
from finetune_exe.models.passes import compute_in_fewer_passes

KINDS = {"silu": 0, "gelu_pytorch_tanh": 1, "gelu": 2}
"""Names of activations in transformers, and where they stand here."""


def mlp_of(activation: str, *, hidden: int = 12, inner: int = 20, bias: bool = False) -> torch.nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=hidden, intermediate_size=inner, hidden_act=activation, mlp_bias=bias,
                         num_attention_heads=1, head_dim=2)  # fmt: skip
    return LlamaMLP(config)


def gradients(module: torch.nn.Module, y: torch.Tensor, x: torch.Tensor) -> list[torch.Tensor]:
    torch.manual_seed(1)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return list(torch.autograd.grad(y, [x, *trained], torch.randn(y.shape).to(y.dtype)))


@pytest.mark.parametrize("activation", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(tokens=st.integers(1, 7), hidden=st.integers(1, 19), inner=st.integers(1, 35), bias=st.booleans())
@settings(max_examples=12, deadline=None)
def test_every_weight_trained_it_is_the_module_of_transformers(
    activation: str, dtype: torch.dtype, tokens: int, hidden: int, inner: int, bias: bool
) -> None:
    module = mlp_of(activation, hidden=hidden, inner=inner, bias=bias).to(dtype)
    x = torch.randn(2, tokens, hidden).to(dtype).requires_grad_()
    layers = layers_of(module, x)
    assert layers is not None
    ours, theirs = gated_mlp(x, layers, ACTIVATIONS[KINDS[activation]]), module(x)
    assert torch.equal(ours, theirs)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for found, wanted in zip(gradients(module, ours, x), gradients(module, theirs, x), strict=True):
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance * float(wanted.abs().max() + 1e-6))


def tuned(activation: str = "silu", **given: Any) -> Any:
    """Give the module in a model of PEFT's with adapters away from zero."""
    config = {"r": 3, "lora_alpha": 6, "target_modules": ["gate_proj", "up_proj", "down_proj"],
              "init_lora_weights": False, **given}  # fmt: skip
    network = torch.nn.ModuleDict({"mlp": mlp_of(activation, bias=bool(given.get("lora_bias")))})
    torch.manual_seed(2)
    return get_peft_model(network, compute_adapters_fast(LoraConfig(**config)))


def with_and_without(model: Any, *, half: bool = False) -> tuple[list[torch.Tensor], list[torch.Tensor], int]:
    """Give values and gradients as the module computes them and as ours does, and how many modules ours is."""
    mlp = model.get_base_model()["mlp"]
    if half:
        for name, parameter in model.named_parameters():
            parameter.data = parameter.data if "lora" in name else parameter.data.bfloat16()
    torch.manual_seed(3)
    x = torch.randn(2, 5, 12, dtype=torch.bfloat16 if half else torch.float32, requires_grad=True)
    found = []
    count = 0
    for ours in (False, True):
        count = compute_in_fewer_passes(model) if ours else 0
        torch.manual_seed(4)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            y = mlp(x)
        found.append([y, *(gradients(model, y, x) if any(p.requires_grad for p in model.parameters()) else [])])
    return found[0], found[1], count


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    "given", [{}, {"use_rslora": True}, {"target_modules": ["gate_proj"]}, {"target_modules": ["down_proj"]}]
)
def test_with_adapters_values_are_the_same_to_the_bit(half: bool, given: dict[str, Any]) -> None:
    theirs, ours, count = with_and_without(tuned(**given), half=half)
    assert count == 1
    assert torch.equal(theirs[0], ours[0])
    tolerance = 2e-2 if half else 1e-5
    for found, wanted in zip(ours[1:], theirs[1:], strict=True):
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance * float(wanted.abs().max()))


@pytest.mark.parametrize("given", [{"use_dora": True}, {"lora_dropout": 0.5}, {"lora_bias": True}])
def test_adapters_that_are_more_than_a_product_are_left_to_peft(given: dict[str, Any]) -> None:
    theirs, ours, _ = with_and_without(tuned(**given))
    for one, other in zip(theirs, ours, strict=True):
        assert torch.equal(one, other)


def test_an_adapter_switched_off_or_merged_is() -> None:
    model = tuned()
    compute_in_fewer_passes(model)
    mlp, x = model.get_base_model()["mlp"], torch.randn(1, 4, 12)
    with_adapter, plain = mlp(x), mlp_of("silu")(x)
    with model.disable_adapter():
        assert torch.equal(mlp(x), plain)
    assert not torch.allclose(with_adapter, plain, atol=1e-4)
    model.merge_adapter()
    torch.testing.assert_close(mlp(x), with_adapter, rtol=1e-4, atol=1e-5)
    model.unmerge_adapter()
    merged = model.merge_and_unload()
    torch.testing.assert_close(merged["mlp"](x), with_adapter, rtol=1e-4, atol=1e-5)
    assert set(merged.state_dict()) == {f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_gradient_is_that_of_differences(activation: Any) -> None:
    torch.manual_seed(0)

    def number(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    sizes = {"gate": (4, 3), "up": (4, 3), "down": (3, 4)}
    tensors = [number(*shape) for out, into in sizes.values() for shape in ((out, into), (out,), (2, into), (out, 2))]

    def computed(x: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
        return gated_mlp(x, tuple(Factors(*parts[at : at + 4], 0.7) for at in (0, 4, 8)), activation)

    torch.autograd.gradcheck(computed, (number(2, 3), *tensors))


def test_only_the_input_and_the_two_inner_products_are_kept() -> None:
    model = tuned(r=1)
    compute_in_fewer_passes(model)
    x, kept = torch.randn(7, 12, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        model.get_base_model()["mlp"](x)
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    tokens = sorted(tuple(t.shape) for t in kept if t.data_ptr() not in weights and len(t) == 7)
    assert tokens == [(7, 1), (7, 1), (7, 1), (7, 12), (7, 20), (7, 20)]


def test_other_layers_are_not_taken_for_it() -> None:
    gemma = GemmaMLP(GemmaConfig(hidden_size=12, intermediate_size=20, num_attention_heads=1))
    assert layers_of(gemma, torch.randn(1, 12)) is not None
    gemma.up_proj = torch.nn.Sequential(gemma.up_proj)
    assert layers_of(gemma, torch.randn(1, 12)) is None
    assert layers_of(torch.nn.Linear(12, 12), torch.randn(1, 12)) is None
    assert isinstance(tuned().get_base_model()["mlp"].up_proj, FastLinear)


def test_dropout_counts_while_it_trains_and_not_after() -> None:
    model = tuned("gelu_pytorch_tanh", lora_dropout=0.5).eval()
    mlp, x = model.get_base_model()["mlp"], torch.randn(1, 400, 12)
    wanted = mlp(x)
    assert compute_in_fewer_passes(model) == 1
    assert torch.equal(mlp(x), wanted)
    model.train()
    assert not torch.allclose(mlp(x), wanted, atol=1e-3)
    model.eval()
    assert torch.equal(mlp(x), wanted)
