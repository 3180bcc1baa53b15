"""A linear layer with a low-rank adapter, computed in as few passes over its output as there can be.

Shapes: N tokens, I inputs, O outputs, R rank.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear
from torch.autograd.function import once_differentiable


def compute_adapters_fast(config: LoraConfig) -> LoraConfig:
    """Let PEFT put `FastLinear` beside plain linear layers; return the configuration."""
    config._register_custom_module({PlainLinear: FastLinear})
    return config


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
        name = self.active_adapters[0] if len(self.active_adapters) == 1 else None
        if args or rest or self.disable_adapters or self.merged or name not in self.lora_A or name in self.lora_variant:
            return super().forward(x, *args, **rest)
        base, first, second = self.base_layer, self.lora_A[name], self.lora_B[name]
        autocast = torch.is_autocast_enabled(x.device.type)
        dtype = torch.get_autocast_dtype(x.device.type) if autocast else x.dtype
        thinned = self.training and not isinstance(self.lora_dropout[name], torch.nn.Identity)
        if thinned or base.weight.dtype != dtype or base.weight.requires_grad or second.bias is not None:
            return super().forward(x)
        y_NO = _Update.apply(
            x.to(dtype).flatten(0, -2), base.weight, base.bias, first.weight.to(dtype), second.weight.to(dtype),
            self.scaling[name],
        )  # fmt: skip
        return y_NO.unflatten(0, x.shape[:-1])


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
    ) -> torch.Tensor:
        """Compute the output."""
        narrow_NR = x_NI @ first_RI.T
        ctx.save_for_backward(x_NI, weight_OI, first_RI, second_OR, narrow_NR)
        ctx.scale = scale
        return torch.nn.functional.linear(x_NI, weight_OI, bias_O).addmm_(narrow_NR, second_OR.T, alpha=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NO: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Compute the gradients of input and adapter."""
        x_NI, weight_OI, first_RI, second_OR, narrow_NR = ctx.saved_tensors
        narrow_grad_NR = (grad_NO @ second_OR).mul_(ctx.scale)
        for_x = (grad_NO @ weight_OI).addmm_(narrow_grad_NR, first_RI) if ctx.needs_input_grad[0] else None
        for_second = (grad_NO.T @ narrow_NR).mul_(ctx.scale)
        return for_x, None, None, narrow_grad_NR.T @ x_NI, for_second, None
