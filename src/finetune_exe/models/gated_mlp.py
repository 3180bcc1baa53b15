"""A gated MLP as one function of autograd, which keeps its input and the two inner products alone.

Shapes: N tokens, I inputs, F inner features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from finetune_exe.models.factors import NUM_TENSORS, Factors, computed_in, factors_of

PARTS = ("gate_proj", "up_proj", "down_proj")
"""Names of its linear layers throughout transformers."""


class Activation(NamedTuple):
    """A function of single numbers, and its gradient from that of its output and its input."""

    values: Callable[[torch.Tensor], torch.Tensor]
    gradient: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


ACTIVATIONS = (
    Activation(torch.nn.functional.silu, torch.ops.aten.silu_backward),
    *(
        Activation(
            partial(torch.nn.functional.gelu, approximate=form),
            partial(torch.ops.aten.gelu_backward, approximate=form),
        )
        for form in ("tanh", "none")
    ),
)
"""Those that a gated MLP is tried with."""


def layers_of(module: torch.nn.Module, x: torch.Tensor) -> tuple[Factors, ...] | None:
    """Give what the three linear layers compute; None where there is more to do, or other layers."""
    children = dict(module.named_children())
    found = tuple(factors for name in PARTS if (factors := factors_of(children.get(name), x)) is not None)
    return found if len(found) == len(PARTS) else None


def gated_mlp(x: torch.Tensor, layers: tuple[Factors, ...], activation: Activation) -> torch.Tensor:
    """Compute down(activation(gate(x)) * up(x))."""
    tensors = (tensor for layer in layers for tensor in layer[:NUM_TENSORS])
    rests = tuple(layer[NUM_TENSORS:] for layer in layers)
    y_NI: torch.Tensor = _GatedMlp.apply(x.to(computed_in(x)).flatten(0, -2), activation, rests, *tensors)
    return y_NI.unflatten(0, x.shape[:-1])


class _GatedMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NI: torch.Tensor, activation: Activation, rests: Any, *tensors: Any) -> torch.Tensor:
        """Compute the output."""
        gate, up, down = _together(tensors, rests)
        gate_NF, gate_narrow = gate.output(x_NI)
        up_NF, up_narrow = up.output(x_NI)
        y_NI, down_narrow = down.output(activation.values(gate_NF).mul_(up_NF))
        ctx.save_for_backward(x_NI, gate_NF, up_NF, gate_narrow, up_narrow, down_narrow, *tensors)
        ctx.activation, ctx.rests = activation, rests
        return y_NI

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NI: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Compute the gradients of input, weights and adapters."""
        x_NI, gate_NF, up_NF, gate_narrow, up_narrow, down_narrow, *tensors = ctx.saved_tensors
        gate, up, down = _together(tensors, ctx.rests)
        for_input, _, _, *wanted = ctx.needs_input_grad
        wanted_gate, wanted_up, wanted_down = (wanted[start : start + NUM_TENSORS] for start in _starts(wanted))
        opened_NF = ctx.activation.values(gate_NF)
        for_inner_NF, *of_down = down.gradients(grad_NI, opened_NF * up_NF, down_narrow, [True, *wanted_down])
        assert for_inner_NF is not None
        for_x_NI, *of_up = up.gradients(opened_NF.mul_(for_inner_NF), x_NI, up_narrow, [for_input, *wanted_up])
        for_gate_NF = ctx.activation.gradient(for_inner_NF.mul_(up_NF), gate_NF)
        for_x_NI, *of_gate = gate.gradients(for_gate_NF, x_NI, gate_narrow, [for_input, *wanted_gate], onto_NI=for_x_NI)
        return for_x_NI, None, None, *of_gate, *of_up, *of_down


def _starts(parts: Any) -> range:
    return range(0, len(parts), NUM_TENSORS)


def _together(tensors: Any, rests: Any) -> Iterator[Factors]:
    return (Factors(*tensors[start : start + NUM_TENSORS], *rest)
            for start, rest in zip(_starts(tensors), rests, strict=True))  # fmt: skip
