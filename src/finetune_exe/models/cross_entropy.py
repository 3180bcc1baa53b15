"""Cross-entropy of learned tokens over a vocabulary, a slice of the tokens at a time.

Shapes: N tokens, S tokens of a slice, H hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

SLICE_LOGITS = 1 << 23
"""Logits computed at once: some ten megabytes, which stay in a processor's cache from one operation to the next."""
MOST_LOGITS = 1 << 27
"""Logits of a head with trained parameters that are computed whole, in 1.5 GiB; more go in slices, each twice."""


def token_losses(hidden_NH: torch.Tensor, head: Any, targets_N: torch.Tensor) -> torch.Tensor:
    """Compute the negative log-likelihood of each target, in nats and float32.

    A frozen head never holds more than a slice of the logits; its gradient is ready as soon as the loss is, since that
    of one token depends on nothing else. A head with parameters that train is computed whole, or where that would take
    very much memory in slices of which each is computed again for the gradient.

    Args:
        hidden_NH: Last hidden states at the positions that predict.
        head: The module that makes logits of them.
        targets_N: The tokens to predict.
    """
    if type(head) is torch.nn.Linear and not any(parameter.requires_grad for parameter in head.parameters()):
        kind = hidden_NH.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_NH.dtype
        bias = None if head.bias is None else head.bias.to(dtype)
        losses_N: torch.Tensor = _FrozenHead.apply(hidden_NH.to(dtype), head.weight.to(dtype), bias, targets_N)
        return losses_N
    num_logits = len(targets_N) * head.weight.shape[0]
    if num_logits <= MOST_LOGITS:
        return _whole(hidden_NH, head, targets_N)
    size = max(1, MOST_LOGITS // (4 * head.weight.shape[0]))
    parts = zip(hidden_NH.split(size), targets_N.split(size), strict=True)
    return torch.cat([checkpoint(_whole, hidden, head, targets, use_reentrant=False) for hidden, targets in parts])


def _whole(hidden_NH: torch.Tensor, head: Any, targets_N: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(head(hidden_NH).float(), targets_N, reduction="none")


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
        size = max(1, SLICE_LOGITS // weight_VH.shape[0])
        losses, gradients = [], []
        for hidden_SH, targets_S in zip(hidden_NH.split(size), targets_N.split(size), strict=True):
            logits_SV = torch.nn.functional.linear(hidden_SH, weight_VH, bias_V)
            log_p_SV = torch.log_softmax(logits_SV, dim=-1, dtype=torch.float32)
            losses.append(-log_p_SV.gather(1, targets_S.unsqueeze(1)).squeeze(1))
            if wanted:
                error_SV = log_p_SV.exp_()
                error_SV[torch.arange(len(targets_S), device=targets_S.device), targets_S] -= 1
                gradients.append(logits_SV.copy_(error_SV) @ weight_VH)
        ctx.save_for_backward(torch.cat(gradients) if gradients else hidden_NH.new_empty(0))
        return torch.cat(losses) if losses else hidden_NH.new_empty(0, dtype=torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scale each token's gradient."""
        (gradient_NH,) = ctx.saved_tensors
        return (gradient_NH * grad_N.unsqueeze(1)).to(gradient_NH.dtype), None, None, None
