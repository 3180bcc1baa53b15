"""Layers that look back by a state rather than by attention, out of a configuration.

Source: the model and configuration classes in transformers 5.23.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_exe.domain.values import Recurrence, RecurrentLinear

_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
"""What Nemotron-H's configuration files call kinds of layers in `hybrid_override_pattern`."""
_OF_EXPERTS = ("n_routed_experts", "n_shared_experts", "moe_intermediate_size")
_ATTENTION = ("attention", "full_attention")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What the layers of a model are made of that does not look back by attention alone."""

    recurrence: Recurrence
    attention: int
    """Layers with attention."""
    mlp: int
    """Layers with an MLP or experts."""
    dense: int | None
    """Of them, those without experts where others have them; None where the configuration tells as usual."""
    others: int
    """Weights of all layers beside linear ones, experts, what chooses them, and the usual norms."""


@dataclass(frozen=True, slots=True)
class _Block:
    linear: tuple[RecurrentLinear, ...]
    others: int
    """Weights of one beside them."""


def hybrid_layers(values: Mapping[str, Any], hidden: int, *, routed: int) -> Layers | None:
    """Read the layers of a hybrid model, `routed` of them with experts; None for one that has attention alone."""
    match values.get("model_type"):
        case "jamba":
            period, offset = values["attn_layer_period"], values["attn_layer_offset"]
            kinds = [_at(layer, period, offset) for layer in range(values["num_hidden_layers"])]
            experts = [layer for layer in range(len(kinds))
                       if layer % values["expert_layer_period"] == values["expert_layer_offset"]]  # fmt: skip
            return _mixed(kinds, _mamba(values, hidden), dense=len(kinds) - len(experts))
        case "falcon_h1":
            layers = values["num_hidden_layers"]
            width = values.get("mamba_d_ssm") or values.get("mamba_expand", 2) * hidden
            block = _mamba_2(values, hidden, width=width, normed=bool(values.get("mamba_rms_norm")))
            return Layers(recurrence=Recurrence(layers=layers, linear=block.linear), attention=layers, mlp=layers,
                          dense=None, others=layers * block.others)  # fmt: skip
        case "nemotron_h":
            width, kinds = values["mamba_num_heads"] * values["mamba_head_dim"], _kinds(values)
            return _mixed(kinds, _mamba_2(values, hidden, width=width, normed=True), dense=kinds.count("mlp"))
        case "granitemoehybrid":
            width = values.get("mamba_expand", 2) * hidden
            return _mixed(values["layer_types"], _mamba_2(values, hidden, width=width, normed=True), dense=None)
        case "qwen3_next":
            every = values.get("full_attention_interval") or 4
            kinds = values.get("layer_types") or [
                _at(layer, every, every - 1) for layer in range(values["num_hidden_layers"])
            ]
            mixed = _mixed(kinds, _delta(values, hidden), dense=None)
            queries_and_keys, shared_gate = 2 * values["head_dim"], hidden
            return None if mixed is None else Layers(
                recurrence=mixed.recurrence, attention=mixed.attention, mlp=mixed.mlp, dense=None,
                others=mixed.others + mixed.attention * queries_and_keys + routed * shared_gate,
            )  # fmt: skip
        case _:
            return None


def named_as_usual(values: dict[str, Any]) -> dict[str, Any]:
    """Give the number of layers and the widths that Nemotron-H tells in other words, or for no layer at all."""
    if values.get("model_type") != "nemotron_h":
        return values
    kinds = _kinds(values)
    usual = {**values, "num_hidden_layers": len(kinds)}
    if "moe" in kinds:
        shared = (values.get("n_shared_experts") or 0) * (values.get("moe_shared_expert_intermediate_size") or 0)
        return usual | {"shared_expert_intermediate_size": shared}
    return {name: value for name, value in usual.items() if name not in _OF_EXPERTS}


def _kinds(values: Mapping[str, Any]) -> list[str]:
    return list(values.get("layers_block_type") or [_LETTERS[one] for one in values["hybrid_override_pattern"]])


def _at(layer: int, period: int, offset: int) -> str:
    return "attention" if layer % period == offset else "recurrent"


def _mixed(kinds: Sequence[str], block: _Block, *, dense: int | None) -> Layers | None:
    """Put together layers of several kinds; None where none of them is recurrent."""
    alone = sum(kind in ("mlp", "moe") for kind in kinds)
    attention = sum(kind in _ATTENTION for kind in kinds)
    recurrent = len(kinds) - attention - alone
    if not recurrent:
        return None
    return Layers(
        recurrence=Recurrence(layers=recurrent, linear=block.linear),
        attention=attention,
        mlp=alone or len(kinds),
        dense=dense,
        others=recurrent * block.others,
    )


def _mamba(values: Mapping[str, Any], hidden: int) -> _Block:
    """Mamba with norms of its own, as Jamba has it; the two last layers are multiplied by fused kernels."""
    inner, state = values.get("mamba_expand", 2) * hidden, values.get("mamba_d_state", 16)
    rank, kernel = values.get("mamba_dt_rank", "auto"), values.get("mamba_d_conv", 4)
    steps = math.ceil(hidden / 16) if rank == "auto" else rank
    biases = (inner if values.get("mamba_conv_bias", True) else 0) + inner
    biases += 2 * inner + hidden if values.get("mamba_proj_bias") else 0
    return _Block(
        linear=(
            RecurrentLinear(fan_in=hidden, fan_out=2 * inner),
            RecurrentLinear(fan_in=inner, fan_out=steps + 2 * state),
            RecurrentLinear(fan_in=steps, fan_out=inner, called=False),
            RecurrentLinear(fan_in=inner, fan_out=hidden, called=False),
        ),
        others=inner * (state + 1 + kernel) + biases + steps + 2 * state,
    )


def _mamba_2(values: Mapping[str, Any], hidden: int, *, width: int, normed: bool) -> _Block:
    heads = _first(values, "mamba_n_heads", "mamba_num_heads")
    state = _first(values, "mamba_d_state", "ssm_state_size")
    groups = _first(values, "mamba_n_groups", "n_groups")
    kernel = _first(values, "mamba_d_conv", "conv_kernel")
    convolved = width + 2 * groups * state
    into = width + convolved + heads
    biases = convolved if values.get("mamba_conv_bias", values.get("use_conv_bias", True)) else 0
    biases += into + hidden if values.get("mamba_proj_bias", values.get("use_bias")) else 0
    return _Block(
        linear=(
            RecurrentLinear(fan_in=hidden, fan_out=into),
            RecurrentLinear(fan_in=width, fan_out=hidden, called=False),
        ),
        others=3 * heads + convolved * kernel + biases + (width if normed else 0),
    )


def _delta(values: Mapping[str, Any], hidden: int) -> _Block:
    """Linear attention by the gated delta rule."""
    heads, dim = values["linear_num_value_heads"], values["linear_value_head_dim"]
    keys, width = values["linear_num_key_heads"] * values["linear_key_head_dim"], heads * dim
    kernel = values.get("linear_conv_kernel_dim", 4)
    return _Block(
        linear=(
            RecurrentLinear(fan_in=hidden, fan_out=2 * keys + 2 * width),
            RecurrentLinear(fan_in=hidden, fan_out=2 * heads),
            RecurrentLinear(fan_in=width, fan_out=hidden),
        ),
        others=2 * heads + (2 * keys + width) * kernel + dim,
    )


def _first(values: Mapping[str, Any], *names: str) -> Any:
    """Give the first that is there; where none is, None, with which nothing can be counted."""
    return next((values[name] for name in names if values.get(name) is not None), None)
