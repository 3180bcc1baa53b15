"""Models of transformers with and without the norms and MLPs that are computed in fewer passes."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, Olmo2Config, Phi3Config, Qwen3Config

from finetune_exe.models.low_rank_layer import compute_adapters_fast
from finetune_exe.models.passes import compute_in_fewer_passes

CONFIGS = {
    "llama": (LlamaConfig, 7),
    "qwen3": (Qwen3Config, 11),  # norms of queries and keys besides
    "gemma": (GemmaConfig, 7),
    "olmo2": (Olmo2Config, 11),
    "phi3": (Phi3Config, 5),  # its MLP has gate and up in one: it is left alone
}
"""Models of two layers, and how many of their modules are taken over."""


def model_of(kind: str, *, dtype: torch.dtype = torch.float32, lora: bool = True) -> Any:
    torch.manual_seed(0)
    config = CONFIGS[kind][0](
        hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, vocab_size=64, pad_token_id=0, attn_implementation="eager",
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    if not lora:
        return model
    settings = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    return get_peft_model(model, compute_adapters_fast(settings))


def step(model: Any, *, half: bool) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.arange(1, 31).reshape(2, 15)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    return loss.detach(), torch.cat([p.grad.float().flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", CONFIGS)
def test_the_loss_is_the_same_to_the_bit_and_its_gradient_up_to_rounding(kind: str, half: bool, lora: bool) -> None:
    dtype = torch.bfloat16 if half and lora else torch.float32
    plain, ours = model_of(kind, dtype=dtype, lora=lora), model_of(kind, dtype=dtype, lora=lora)
    random = torch.get_rng_state()
    assert compute_in_fewer_passes(ours) == CONFIGS[kind][1]
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in ours.parameters())
    wanted, found = step(plain, half=half), step(ours, half=half)
    assert torch.equal(wanted[0], found[0])
    assert (wanted[1] - found[1]).norm() <= (2e-2 if half else 1e-5) * wanted[1].norm()
    assert list(ours.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("kind", CONFIGS)
def test_weights_that_later_become_16_bit_are_rounded_where_the_model_rounds(kind: str) -> None:
    plain, ours = model_of(kind, lora=False), model_of(kind, lora=False)
    compute_in_fewer_passes(ours)
    for model in (plain, ours):
        for name, parameter in model.named_parameters():
            if "norm" in name:
                torch.manual_seed(len(name))
                torch.nn.init.normal_(parameter, std=0.3)
        model.bfloat16()
    assert torch.equal(step(plain, half=False)[0], step(ours, half=False)[0])


@pytest.mark.parametrize("nested", [False, True])
def test_gradient_checkpointing_and_copies_go_on_working(nested: bool) -> None:
    model = model_of("llama")
    compute_in_fewer_passes(model)
    wanted = step(copy.deepcopy(model), half=False)
    model = copy.deepcopy(model) if nested else model
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    model.train()
    found = step(model, half=False)
    assert torch.equal(wanted[0], found[0])
    assert torch.equal(wanted[1], found[1])


class Squared(torch.nn.Module):
    """A gated MLP with another activation."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = torch.nn.Linear(6, 9), torch.nn.Linear(6, 9)
        self.down_proj = torch.nn.Linear(9, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(torch.relu(self.gate_proj(x)).square() * self.up_proj(x))


class Capped(Squared):
    """One whose values are those of a gated MLP up to 3, and not its gradients beyond."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = torch.nn.functional.silu(self.gate_proj(x)) * self.up_proj(x)
        return self.down_proj(inner + (inner.detach() - inner) * (inner.abs() > 3))


class Mean(torch.nn.Module):
    """A norm of another kind."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.eps = torch.nn.Parameter(torch.rand(6)), 1e-6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x / (x.abs().mean(-1, keepdim=True) + self.eps)


class WithMore(Mean):
    """One that takes more than its input."""

    def forward(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return self.weight * x * gate


@pytest.mark.parametrize("kind", [Squared, Capped, Mean, WithMore, torch.nn.LayerNorm])
def test_a_module_that_computes_something_else_is_left_alone(kind: Any) -> None:
    module = kind(6) if kind is torch.nn.LayerNorm else kind()
    assert compute_in_fewer_passes(module) == 0
    assert type(module) is kind


def test_memory_of_a_model_comes_back_as_soon_as_nobody_holds_it() -> None:
    model = model_of("llama")
    compute_in_fewer_passes(model)
    step(model, half=False)
    weight = weakref.ref(model.get_base_model().model.layers[0].mlp.up_proj)
    gc.collect()
    gc.disable()
    try:
        del model
        assert weight() is None
    finally:
        gc.enable()


def test_a_module_that_another_library_wraps_is_left_alone() -> None:
    model = model_of("llama", lora=False)
    for module in model.modules():
        if module is not model:
            module.forward = module.forward
    assert compute_in_fewer_passes(model) == 0
