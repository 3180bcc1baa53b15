"""A linear layer with a low-rank adapter, computed in as few passes over its output as there can be.

Shapes: N tokens, I inputs, O outputs, R rank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear
from torch.autograd.function import once_differentiable


def compute_adapters_fast(config: LoraConfig) -> LoraConfig:
    """Let PEFT put `FastLinear` beside plain linear layers; return the configuration."""
    config._register_custom_module({PlainLinear: FastLinear})
    return config


def plain_adapter(layer: Any) -> str | None:
    """Name the adapter of a layer that has one, of low-rank factors alone; None where there is more to compute."""
    name = layer.active_adapters[0] if len(layer.active_adapters) == 1 else None
    if layer.disable_adapters or layer.merged or name not in layer.lora_A or name in layer.lora_variant:
        return None
    thinned = layer.training and not isinstance(layer.lora_dropout[name], torch.nn.Identity)
    return None if thinned or layer.lora_B[name].bias is not None else str(name)


def computed_in(x: torch.Tensor) -> torch.dtype:
    """Name the number format that matrix products of `x` are computed in here."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def adapted(
    layer: Any, name: str, x: torch.Tensor, weight: torch.Tensor, unpack: Callable[[torch.Tensor], torch.Tensor] | None
) -> torch.Tensor:
    """Compute a layer with its adapter; the weights that `unpack` gives are there only while they are multiplied."""
    dtype, bias = computed_in(x), layer.base_layer.bias
    first, second = layer.lora_A[name].weight.to(dtype), layer.lora_B[name].weight.to(dtype)
    y_NO = _Update.apply(x.to(dtype).flatten(0, -2), weight, bias, first, second, layer.scaling[name], unpack)
    y: torch.Tensor = y_NO.unflatten(0, x.shape[:-1])
    return y


class _OnlyPlain(type):
    """Says that an object is an instance only where it is a `torch.nn.Linear` and nothing derived from it."""

    def __instancecheck__(cls, layer: object) -> bool:
        return type(layer) is torch.nn.Linear


class PlainLinear(torch.nn.Linear, metaclass=_OnlyPlain):
    """Stands for linear layers whose weights are kept as they are, not in 4 bit."""


class FastLinear(Linear):  # type: ignore[misc]  # PEFT has no types
    """PEFT's layer, whose plain adapters neither write the scaled update nor its sum with the output by itself."""

    def forward(self, x: torch.Tensor, *args: Any, **rest: Any) -> torch.Tensor:
        """Compute the layer with its adapter; in any case but the plain one as PEFT does."""
        name = None if args or rest else plain_adapter(self)
        weight = self.base_layer.weight
        if name is None or weight.dtype != computed_in(x) or weight.requires_grad:
            return super().forward(x, *args, **rest)
        return adapted(self, name, x, weight, None)


class _Update(torch.autograd.Function):
    """x W' + scale (x A') B', of which W is frozen."""

    @staticmethod
    def forward(
        ctx: Any,
        x_NI: torch.Tensor,
        weight_OI: torch.Tensor,
        bias_O: torch.Tensor | None,
        first_RI: torch.Tensor,
        second_OR: torch.Tensor,
        scale: float,
        unpack: Callable[[torch.Tensor], torch.Tensor] | None,
    ) -> torch.Tensor:
        """Compute the output."""
        narrow_NR = x_NI @ first_RI.T
        ctx.save_for_backward(x_NI, weight_OI, first_RI, second_OR, narrow_NR)
        ctx.scale, ctx.unpack = scale, unpack
        whole_OI = weight_OI if unpack is None else unpack(weight_OI)
        return torch.nn.functional.linear(x_NI, whole_OI, bias_O).addmm_(narrow_NR, second_OR.T, alpha=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NO: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Compute the gradients of input and adapter."""
        x_NI, weight_OI, first_RI, second_OR, narrow_NR = ctx.saved_tensors
        narrow_grad_NR = (grad_NO @ second_OR).mul_(ctx.scale)
        for_x = None
        if ctx.needs_input_grad[0]:
            whole_OI = weight_OI if ctx.unpack is None else ctx.unpack(weight_OI)
            for_x = (grad_NO @ whole_OI).addmm_(narrow_grad_NR, first_RI)
        for_second = (grad_NO.T @ narrow_NR).mul_(ctx.scale)
        return for_x, None, None, narrow_grad_NR.T @ x_NI, for_second, None, None
