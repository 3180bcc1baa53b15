"""Root-mean-square norms that keep their input alone, and whose gradient is one pass.

Shapes: N tokens, H hidden size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

EPSILONS = ("variance_epsilon", "eps")
"""Names under which layers of transformers keep what they add to the mean square."""


class Form(NamedTuple):
    """How a norm with weights w is written: x / rms(x) times w or 1 + w, rounded to 16 bit before or after that."""

    epsilon: float
    one_more: bool
    rounds_late: bool


def norm_forms(module: torch.nn.Module) -> Iterator[Form]:
    """Give what a module may compute, if it looks like such a norm."""
    if [name for name, _ in module.named_parameters()] != ["weight"] or any(module.children()):
        return
    epsilons = {vars(module)[name] for name in EPSILONS if isinstance(vars(module).get(name), float)}
    for epsilon, one_more, rounds_late in itertools.product(epsilons, (False, True), (False, True)):
        yield Form(epsilon, one_more, rounds_late)


def rms_norm(x: torch.Tensor, weight_H: torch.Tensor, form: Form) -> torch.Tensor:
    """Compute a norm over the last axis."""
    y_NH: torch.Tensor = _RmsNorm.apply(x.flatten(0, -2).contiguous(), weight_H, form)
    return y_NH.unflatten(0, x.shape[:-1])


class _RmsNorm(torch.autograd.Function):
    """The norm, operation by operation as transformers computes it, so that its values are the same to the bit.

    On a GPU one kernel of PyTorch's does most of that, and one its gradient; the mean is then summed in another order.
    On a processor the gradient of x / |x| is a kernel made for normalised weights, with g / |x| in it. Here |x| is the
    root of the sum of squares and H epsilon, and g the root of H. Where 16 bit cannot hold g, the factor still is
    exact, and what the norm takes away along x is off by their rounding.
    """

    @staticmethod
    def forward(ctx: Any, x_NH: torch.Tensor, weight_H: torch.Tensor, form: Form) -> torch.Tensor:
        """Compute the norm."""
        ctx.form = form
        if _has_kernels(x_NH) and not form.rounds_late:
            y_NH, factor = torch.ops.aten._fused_rms_norm(x_NH, weight_H.shape, None, form.epsilon)
            ctx.save_for_backward(x_NH, weight_H, factor.reshape(-1, 1))
            return y_NH.mul_(_scales(weight_H, form))
        wide_NH = x_NH.float() if x_NH.dtype.itemsize < torch.float32.itemsize else x_NH.clone()
        factor_N1 = torch.rsqrt(wide_NH.pow(2).mean(-1, keepdim=True) + form.epsilon)
        ctx.save_for_backward(x_NH, weight_H, factor_N1)
        wide_NH.mul_(factor_N1)
        if form.rounds_late:
            return wide_NH.mul_(_scales(weight_H.to(wide_NH.dtype), form)).to(x_NH.dtype)
        return wide_NH.to(x_NH.dtype).mul_(_scales(weight_H, form))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NH: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Compute the gradients of input and weights."""
        x_NH, weight_H, factor_N1 = ctx.saved_tensors
        for_x_NH = for_weight_H = None
        if ctx.needs_input_grad[0]:
            scaled_NH = (grad_NH * _scales(weight_H, ctx.form)).contiguous()
            for_x_NH = _along_the_norm(scaled_NH, x_NH, factor_N1)
        if ctx.needs_input_grad[1]:
            for_weight_H = (grad_NH * x_NH).to(factor_N1.dtype).T @ factor_N1.squeeze(1)
            for_weight_H = for_weight_H.to(weight_H.dtype)
        return for_x_NH, for_weight_H, None


def _along_the_norm(grad_NH: torch.Tensor, x_NH: torch.Tensor, factor_N1: torch.Tensor) -> torch.Tensor:
    """Compute the gradient of x from that of x times its factor."""
    for_x_NH: torch.Tensor
    if _has_kernels(x_NH):
        for_x_NH, _ = torch.ops.aten._fused_rms_norm_backward(
            grad_NH, x_NH, x_NH.shape[1:], factor_N1, None, [True, False]
        )
    else:
        root_N1 = x_NH.new_full((len(x_NH), 1), math.sqrt(x_NH.shape[1]))
        for_x_NH, _ = torch.ops.aten._weight_norm_interface_backward(
            grad_NH, x_NH, root_N1, root_N1.to(factor_N1.dtype) / factor_N1, 0
        )
    return for_x_NH


def _has_kernels(x: torch.Tensor) -> bool:
    """Say whether PyTorch has its own norm and that one's gradient here."""
    return x.is_cuda


def _scales(weight_H: torch.Tensor, form: Form) -> torch.Tensor:
    return weight_H + 1 if form.one_more else weight_H
