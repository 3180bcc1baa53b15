"""How far a tuned model has moved from its base, on the task's prompts and on text that has nothing to do with it.

The divergence on the task's own prompts foretells how much is forgotten elsewhere; the cross-entropy against the base's
predictions on generic text measures it.

Source: Shenfeld et al., RL's Razor, arXiv 2509.04259 (2025); Kalajdzievski, arXiv 2401.05605 (2024).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from finetune_exe.domain.evaluation import ForgettingCard

if TYPE_CHECKING:
    from numpy import float32, int64
    from numpy.typing import NDArray

KEPT = 256
"""Likeliest tokens of the base kept for each position; the rest counts as one."""


class Predictions(NamedTuple):
    """What the base predicts at N positions: its likeliest tokens, and what is left for all others."""

    tokens_NK: NDArray[int64]
    logs_NK: NDArray[float32]
    rest_N: NDArray[float32]
    """Log of the probability of all other tokens together."""


class Moved(NamedTuple):
    """How a model's predictions differ from the base's."""

    divergence_N: NDArray[float32]
    cross_entropy_N: NDArray[float32]
    entropy_N: NDArray[float32]
    agrees_N: NDArray[np.bool_]


def predict(
    model: Any,
    sequences: Sequence[tuple[int, ...]],
    *,
    kept: int = KEPT,
    progress: Callable[[int], None] = lambda _: None,
) -> Predictions:
    """Keep what a model predicts behind every token of some sequences."""
    import torch

    tokens, logs, rest = [], [], []
    for done, logs_NV in enumerate(_log_probabilities(model, sequences), start=1):
        top = logs_NV.topk(min(kept, logs_NV.shape[-1]), dim=-1)
        others_N = torch.log((1 - top.values.double().exp().sum(dim=-1)).clamp_min(1e-9)).float()
        tokens.append(top.indices.cpu().numpy())
        logs.append(top.values.cpu().numpy())
        rest.append(others_N.cpu().numpy())
        progress(done)
    return Predictions(np.concatenate(tokens), np.concatenate(logs), np.concatenate(rest))


def hold_against(model: Any, sequences: Sequence[tuple[int, ...]], base: Predictions) -> Moved:
    """Compare a model's predictions with those kept of the base, tokens outside the likeliest taken as one."""
    import torch

    parts, start = [], 0
    for logs_NV in _log_probabilities(model, sequences):
        end = start + len(logs_NV)
        tokens_NK = torch.from_numpy(base.tokens_NK[start:end]).to(logs_NV.device)
        logs_NK = torch.from_numpy(base.logs_NK[start:end]).to(logs_NV.device).double()
        rest_N = torch.from_numpy(base.rest_N[start:end]).to(logs_NV.device).double()
        own_NK = logs_NV.gather(-1, tokens_NK).double()
        own_rest_N = torch.log((1 - own_NK.exp().sum(dim=-1)).clamp_min(1e-9))
        shares_NK, share_N = logs_NK.exp(), rest_N.exp()
        cross_N = -(shares_NK * own_NK).sum(dim=-1) - share_N * own_rest_N
        entropy_N = -(shares_NK * logs_NK).sum(dim=-1) - share_N * rest_N
        agrees_N = logs_NV.argmax(dim=-1) == tokens_NK[:, 0]
        columns = ((cross_N - entropy_N).clamp_min(0), cross_N, entropy_N)
        parts.append((*(column.float().cpu().numpy() for column in columns), agrees_N.cpu().numpy()))
        start = end
    return Moved(*(np.concatenate([part[k] for part in parts]) for k in range(4)))


def forgetting_card(on_prompts: Moved, on_generic: Moved) -> ForgettingCard:
    """Sum up how far a model has moved."""
    return ForgettingCard(
        num_prompt_tokens=len(on_prompts.divergence_N),
        divergence=float(on_prompts.divergence_N.mean()),
        divergence_p99=float(np.quantile(on_prompts.divergence_N, 0.99)),
        top1_agreement=float(on_prompts.agrees_N.mean()),
        num_generic_tokens=len(on_generic.divergence_N),
        generic_divergence=float(on_generic.divergence_N.mean()),
        generic_cross_entropy=float(on_generic.cross_entropy_N.mean()),
        generic_entropy=float(on_generic.entropy_N.mean()),
    )


def _log_probabilities(model: Any, sequences: Sequence[tuple[int, ...]]) -> Any:
    import torch

    device = next(model.parameters()).device
    for tokens in sequences:
        with torch.inference_mode():
            logits_TV = model(input_ids=torch.tensor([tokens], device=device), use_cache=False).logits[0]
        yield torch.log_softmax(logits_TV.float(), dim=-1)
