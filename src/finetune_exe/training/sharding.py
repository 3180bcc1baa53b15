"""Cut a model up among processes with PyTorch's FSDP2: each keeps a part of the weights, gradients and states.

Each layer is put together on every process while it computes, and taken apart again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from finetune_exe.models.forward import LossFunction, RowLosses, Rows
from finetune_exe.models.ranks import Ranks
from finetune_exe.training.memory import is_out_of_memory

if TYPE_CHECKING:
    import torch

    from finetune_exe.training.setup import Setup


class ShardedLosses:
    """Losses of a model that is cut up: called like the `LossFunction` it holds, by all processes equally often."""

    def __init__(self, losses: LossFunction, *, device: str) -> None:
        self.model = losses.model
        self.device = losses.device = device
        self.ranks = losses.ranks
        self.weight, self.restart = losses.weight, losses.restart
        self._root = _shard(losses, device=device)

    def __call__(self, rows: Rows) -> RowLosses:
        """Compute the losses of the learned tokens."""
        with computed_together(self.ranks, "weights of a pass"):
            found: RowLosses = self._root(rows)
        return found


@contextmanager
def computed_together(ranks: Ranks, label: str) -> Iterator[None]:
    """Compute in the block what processes with parts of one model compute together; where it is whole, anything."""
    if not ranks.is_sharded:
        yield
        return
    with ranks.meeting(label):
        try:
            yield
        except RuntimeError as fault:
            if is_out_of_memory(fault):
                raise MemoryError(str(fault)) from fault  # not a process that is gone
            raise


def _shard(losses: LossFunction, *, device: str) -> Any:
    """Cut up layer by layer, then what is left, as one module whose forward is the whole loss.

    Gradients are added up, not averaged: the loss is divided by the learned tokens of all processes already.
    """
    from torch import nn
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard
    from transformers.modeling_layers import GradientCheckpointingLayer

    class Root(nn.Module):
        """The loss as a module, so that its weights are there when it is called."""

        def __init__(self) -> None:
            super().__init__()
            self.model = losses.model

        def forward(self, rows: Rows) -> RowLosses:
            return losses(rows)

    mesh = init_device_mesh(device, (losses.ranks.count,))
    for layer in [module for module in losses.model.modules() if isinstance(module, GradientCheckpointingLayer)]:
        fully_shard(layer, mesh=mesh)
    root: Any = fully_shard(Root(), mesh=mesh)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return root


@contextmanager
def whole_state(setup: Setup) -> Iterator[None]:
    """Put whole weights and optimizer states in their places while the block runs, in the first process.

    All processes must call it; where nothing is cut up, everything stays as it is.
    """
    if not setup.ranks.is_sharded:
        yield
        return
    from torch import nn

    setup.model.state_dict()  # takes apart what is still together from the last pass
    places: list[tuple[nn.Module, str, Any]] = []
    states: list[tuple[dict[str, Any], str, Any]] = []
    put: dict[int, nn.Parameter] = {}  # output and input may share their weights
    try:
        for module in setup.model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if parameter.requires_grad:
                    if id(parameter) not in put:
                        put[id(parameter)] = nn.Parameter(_gathered(parameter, setup.ranks))
                    places.append((module, name, parameter))
        for kept in setup.optimizer.state.values():
            for key, value in kept.items():
                states.append((kept, key, value))
        wholes = [_gathered(value, setup.ranks) for _, _, value in states]
        for module, name, parameter in places:
            setattr(module, name, put[id(parameter)])
        for (kept, key, _), whole in zip(states, wholes, strict=True):
            kept[key] = whole
        yield
    finally:
        for module, name, parameter in places:
            setattr(module, name, parameter)
        for kept, key, value in states:
            kept[key] = value


def _gathered(value: Any, ranks: Ranks) -> Any:
    """Give the whole of a tensor that is cut up, in the first process; nothing of it in the others."""
    from torch.distributed.tensor import DTensor

    if not isinstance(value, DTensor):
        return value
    with ranks.meeting("whole weights"):
        full = value.full_tensor().detach()
    return full.cpu() if ranks.is_first else full.flatten()[:0]


def cut_like(whole: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """Cut a whole tensor up as another of its shape is; it stays whole where the other is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(part, DTensor) or whole.shape != part.shape:
        return whole
    return distribute_tensor(whole.to(part.device), part.device_mesh, part.placements)


def plain_number(value: torch.Tensor) -> float:
    """Give the value of a tensor of one number, which may be spread over processes."""
    from torch.distributed.tensor import DTensor

    return float(value.full_tensor() if isinstance(value, DTensor) else value)
