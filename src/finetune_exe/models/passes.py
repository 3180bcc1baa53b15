"""Let a model's norms and MLPs be computed in fewer passes over memory, where the values stay the same."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from finetune_exe.models.gated_mlp import ACTIVATIONS, PARTS, Activation, gated_mlp, layers_of
from finetune_exe.models.rms_norm import Form, norm_forms, rms_norm

MAGNITUDES = (1e-3, 1e-2, 0.1, 1.0, 10.0)
"""Of the rows that a module is tried on: among small numbers an epsilon shows."""
TOLERANCE = 0.02
"""How far gradients may be apart, over their length: in 16 bit they are rounded several times on their way."""
ROUNDING = 2e-4
"""The same of values on a GPU, where sums go in another order; on a processor they are the same to the bit.

A norm that rounds to 16 bit before its weights instead of behind them is off by 1.1e-3."""

Compute = Callable[[Any, torch.Tensor, Any], torch.Tensor | None]
"""Computes a module in a certain form; None where it has more to do for this input than is known here."""


class Candidate(NamedTuple):
    """What could stand for the forward pass of a module."""

    compute: Compute
    form: Form | Activation
    width: int
    """Of the input."""
    trials: tuple[tuple[torch.nn.Module, torch.dtype], ...]
    """The module, or what is like it, and a format of its input."""


def compute_in_fewer_passes(model: torch.nn.Module) -> int:
    """Take over the modules of a model that are known here by what they compute; count them.

    What a module computes is tried on a few random rows against its own forward pass. Where it is something else, or
    later has more to do, such as dropout, it computes that itself.
    """
    dtype = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), torch.float32)
    return sum(_take_over(module, dtype) for module in model.modules())


def _take_over(module: torch.nn.Module, dtype: torch.dtype) -> bool:
    if "forward" in vars(module):  # another library has put something around it
        return False
    for candidate in _candidates(module, dtype):
        if all(_is_same(one, dtype, candidate) for one, dtype in candidate.trials):
            module.__class__ = _derived(type(module), candidate.compute, candidate.form)  # type: ignore[arg-type]
            return True
    return False


@functools.cache
def _derived(own: type[torch.nn.Module], compute: Compute, form: Form | Activation) -> type[torch.nn.Module]:
    """Make the class of modules that are taken over: their own, but for the forward pass."""

    def forward(self: torch.nn.Module, x: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        y = None if more or named else compute(self, x, form)
        own_y: torch.Tensor = own.forward(self, x, *more, **named) if y is None else y
        return own_y

    return type(own.__name__, (own,), {"forward": forward, "__module__": own.__module__})


def _candidates(module: Any, dtype: torch.dtype) -> Iterator[Candidate]:
    for form in norm_forms(module):
        trials = ((module, module.weight.dtype), (_otherwise(module), torch.bfloat16))
        yield Candidate(_norm, form, len(module.weight), trials)
    children = dict(module.named_children())
    if set(PARTS) <= set(children):
        for activation in ACTIVATIONS:
            yield Candidate(_mlp, activation, children[PARTS[0]].in_features, ((module, dtype),))


def _otherwise(norm: Any) -> torch.nn.Module:
    """Copy a norm with random weights in 16 bit: they show when it rounds, and what it does with weights of one."""
    other = copy.deepcopy(norm).bfloat16()
    with torch.no_grad():
        other.weight.copy_(torch.randn(other.weight.shape, generator=torch.Generator().manual_seed(1)))
    return other


def _norm(module: Any, x: torch.Tensor, form: Form) -> torch.Tensor | None:
    return rms_norm(x, module.weight, form) if module.weight.dtype == x.dtype else None


def _mlp(module: Any, x: torch.Tensor, activation: Activation) -> torch.Tensor | None:
    layers = layers_of(module, x)
    return None if layers is None else gated_mlp(x, layers, activation)


def _is_same(module: torch.nn.Module, dtype: torch.dtype, candidate: Candidate) -> bool:
    """Say whether values are the same, and gradients up to rounding."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    chance = torch.Generator().manual_seed(0)
    rows = torch.tensor(MAGNITUDES).unsqueeze(1) * torch.randn(len(MAGNITUDES), candidate.width, generator=chance)
    device = next(module.parameters()).device
    x = rows.to(device, dtype).unsqueeze(0).requires_grad_()
    with torch.enable_grad():
        try:
            own, ours = type(module).forward(module, x), candidate.compute(module, x, candidate.form)
        except (RuntimeError, TypeError):  # its forward pass takes something else
            return False
        if ours is None or own.dtype != ours.dtype or not _are_same(own, ours):
            return False
        upstream = torch.randn(own.shape, generator=chance).to(device, own.dtype)
        wanted = torch.autograd.grad(own, [x, *trained], upstream, allow_unused=True)
        found = torch.autograd.grad(ours, [x, *trained], upstream, allow_unused=True)
    return all(_apart(one, other) <= TOLERANCE for one, other in zip(found, wanted, strict=True))


def _are_same(own: torch.Tensor, ours: torch.Tensor) -> bool:
    return torch.equal(own, ours) if own.device.type == "cpu" else _apart(ours.detach(), own.detach()) <= ROUNDING


def _apart(one: torch.Tensor | None, other: torch.Tensor | None) -> float:
    """Give the length of the difference over that of the other."""
    if one is None or other is None:
        return 0.0 if one is other else math.inf
    return float((one - other).float().norm() / other.float().norm().clamp(min=torch.finfo(torch.float32).tiny))
