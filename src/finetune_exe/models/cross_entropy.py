"""Cross-entropy of learned tokens over a vocabulary, a slice of the tokens at a time.

Shapes: N tokens, S tokens of a slice, P of a piece of it, H hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from finetune_exe.estimate.activations import PIECE_LOGITS, SLICE_LOGITS, Processor
from finetune_exe.models.factors import computed_in

MOST_LOGITS = 1 << 27
"""Logits of a head with trained parameters that are kept for its gradient, in 256 MiB of 16 bit; where there are more,
they go in slices, each of them computed twice."""


def token_losses(hidden_NH: torch.Tensor, head: Any, targets_N: torch.Tensor) -> torch.Tensor:
    """Compute the negative log-likelihood of each target, in nats and float32.

    A frozen head never holds more than a slice of the logits; its gradient is ready as soon as the loss is, since that
    of one token depends on nothing else. A head with parameters that train keeps the gradient of its logits in their
    place, or where that would take very much memory is computed again for the gradient, slice by slice.

    Args:
        hidden_NH: Last hidden states at the positions that predict.
        head: The module that makes logits of them.
        targets_N: The tokens to predict.
    """
    if type(head) is torch.nn.Linear and not any(parameter.requires_grad for parameter in head.parameters()):
        losses_N: torch.Tensor = _FrozenHead.apply(*_in_one_format(hidden_NH, head), targets_N)
        return losses_N
    num_logits = len(targets_N) * head.weight.shape[0]
    if num_logits <= MOST_LOGITS:
        return _whole(hidden_NH, head, targets_N)
    size = max(1, MOST_LOGITS // (4 * head.weight.shape[0]))
    parts = zip(hidden_NH.split(size), targets_N.split(size), strict=True)
    return torch.cat([checkpoint(_whole, hidden, head, targets, use_reentrant=False) for hidden, targets in parts])


def _whole(hidden_NH: torch.Tensor, head: Any, targets_N: torch.Tensor) -> torch.Tensor:
    """Compute all losses at once; of heads that are more than a product as they compute their logits."""
    if type(head) is not torch.nn.Linear:
        return torch.nn.functional.cross_entropy(head(hidden_NH).float(), targets_N, reduction="none")
    losses_N: torch.Tensor = _TrainedHead.apply(*_in_one_format(hidden_NH, head), targets_N)
    return losses_N


def _in_one_format(hidden_NH: torch.Tensor, head: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Give hidden states, weights and bias in the number format that products are computed in here."""
    dtype = computed_in(hidden_NH)
    return hidden_NH.to(dtype), head.weight.to(dtype), None if head.bias is None else head.bias.to(dtype)


class _FrozenHead(torch.autograd.Function):
    """Losses under a linear head that does not train, with the gradient with regard to its input."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: torch.Tensor,
        weight_VH: torch.Tensor,
        bias_V: torch.Tensor | None,
        targets_N: torch.Tensor,
    ) -> torch.Tensor:
        """Compute the losses, and each token's gradient for an upstream gradient of one."""
        wanted = ctx.needs_input_grad[0]
        size = max(1, SLICE_LOGITS[_kind(weight_VH)] // weight_VH.shape[0])
        losses, gradients = [], []
        for hidden_SH, targets_S in zip(hidden_NH.split(size), targets_N.split(size), strict=True):
            logits_SV = torch.nn.functional.linear(hidden_SH, weight_VH, bias_V)
            losses.append(_become_errors(logits_SV, targets_S))
            if wanted:
                gradients.append(logits_SV @ weight_VH)
        ctx.save_for_backward(torch.cat(gradients) if gradients else hidden_NH.new_empty(0))
        return torch.cat(losses) if losses else hidden_NH.new_empty(0, dtype=torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scale each token's gradient."""
        (gradient_NH,) = ctx.saved_tensors
        return (gradient_NH * grad_N.unsqueeze(1)).to(gradient_NH.dtype), None, None, None


class _TrainedHead(torch.autograd.Function):
    """Losses under a linear head that trains; of its logits their gradient alone is kept, in their own format."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: torch.Tensor,
        weight_VH: torch.Tensor,
        bias_V: torch.Tensor | None,
        targets_N: torch.Tensor,
    ) -> torch.Tensor:
        """Compute the losses."""
        logits_NV = torch.nn.functional.linear(hidden_NH, weight_VH, bias_V)
        losses_N = _become_errors(logits_NV, targets_N)
        ctx.save_for_backward(hidden_NH, weight_VH, logits_NV)
        return losses_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Compute the gradients; each token's is scaled where that takes the least."""
        hidden_NH, weight_VH, error_NV = ctx.saved_tensors
        wanted_hidden, wanted_weight, wanted_bias, _ = ctx.needs_input_grad
        grad_N1 = grad_N.unsqueeze(1)
        return (
            ((error_NV @ weight_VH) * grad_N1).to(hidden_NH.dtype) if wanted_hidden else None,
            error_NV.T @ (hidden_NH * grad_N1).to(hidden_NH.dtype) if wanted_weight else None,
            error_NV.T @ grad_N.to(error_NV.dtype) if wanted_bias else None,
            None,
        )


def _kind(tensor: torch.Tensor) -> Processor:
    return "cpu" if tensor.device.type == "cpu" else "gpu"


def _become_errors(logits_NV: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
    """Put the gradient of its token's loss in the place of each logit, and return the losses.

    Both are exact up to rounding of float32, the gradient then to the logits' format. A loss is the distance to the
    largest logit less the logarithm of that one's probability.
    """
    size = max(1, PIECE_LOGITS[_kind(logits_NV)] // logits_NV.shape[1])
    losses = []
    for piece_PV, targets_P in zip(logits_NV.split(size), targets_N.split(size), strict=True):
        behind_P = piece_PV.amax(1).float() - piece_PV.gather(1, targets_P.unsqueeze(1)).squeeze(1).float()
        probabilities_PV = torch.softmax(piece_PV, dim=-1, dtype=torch.float32)
        losses.append(behind_P - probabilities_PV.amax(1).log())
        piece_PV.copy_(probabilities_PV)
    losses_N = torch.cat(losses)
    every_N = torch.arange(len(targets_N), device=targets_N.device)
    logits_NV[every_N, targets_N] = torch.expm1(-losses_N).to(logits_NV.dtype)
    return losses_N
