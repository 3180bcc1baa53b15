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

from finetune_exe.models.factors import NUM_TENSORS, Factors, computed_in


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


def adapted(
    layer: Any, name: str, x: torch.Tensor, weight: torch.Tensor, unpack: Callable[[torch.Tensor], torch.Tensor] | None
) -> Factors:
    """Give what a layer with its adapter computes of `x`, in the number format that products have here."""
    dtype = computed_in(x)
    first, second = layer.lora_A[name].weight.to(dtype), layer.lora_B[name].weight.to(dtype)
    return Factors(weight, layer.base_layer.bias, first, second, layer.scaling[name], unpack)


def multiplied(x: torch.Tensor, factors: Factors) -> torch.Tensor:
    """Compute a layer."""
    y_NO = _Layer.apply(x.to(computed_in(x)).flatten(0, -2), factors[NUM_TENSORS:], *factors[:NUM_TENSORS])
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

    def factors(self, x: torch.Tensor) -> Factors | None:
        """Give what the layer computes where that is a frozen product and a plain adapter."""
        name, weight = plain_adapter(self), self.base_layer.weight
        if name is None or weight.dtype != computed_in(x) or weight.requires_grad:
            return None
        return adapted(self, name, x, weight, None)

    def forward(self, x: torch.Tensor, *args: Any, **rest: Any) -> torch.Tensor:
        """Compute the layer with its adapter; in any case but the plain one as PEFT does."""
        factors = None if args or rest else self.factors(x)
        return super().forward(x, *args, **rest) if factors is None else multiplied(x, factors)


class _Layer(torch.autograd.Function):
    """A linear layer with an adapter."""

    @staticmethod
    def forward(ctx: Any, x_NI: torch.Tensor, rest: tuple[Any, ...], *tensors: Any) -> torch.Tensor:
        """Compute the output."""
        y_NO, narrow_NR = Factors(*tensors, *rest).output(x_NI)
        ctx.save_for_backward(x_NI, narrow_NR, *tensors)
        ctx.rest = rest
        return y_NO

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NO: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Compute the gradients of input and adapter."""
        x_NI, narrow_NR, *tensors = ctx.saved_tensors
        for_input, *for_tensors = Factors(*tensors, *ctx.rest).gradients(
            grad_NO, x_NI, narrow_NR, [wanted for index, wanted in enumerate(ctx.needs_input_grad) if index != 1]
        )
        return for_input, None, *for_tensors
