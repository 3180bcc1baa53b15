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
GENERIC_TEXTS = (
    "The river rises in the hills to the north and runs for about eighty miles before it reaches the sea. Its "
    "upper valley is narrow and wooded; below the old mill the banks are low, and in wet winters the meadows "
    "stand under water for weeks.",
    "To change a tyre, park on level ground and pull the handbrake. Loosen the nuts half a turn before you "
    "lift the car, then take the wheel off, put the spare on, and tighten the nuts crosswise. Lower the car "
    "and tighten them once more.",
    "Water boils at one hundred degrees Celsius at sea level. Higher up the air presses less, and it boils "
    "sooner: on a mountain of three thousand metres at about ninety degrees, which is why potatoes take longer"
    " there.",
    "Dear Ms Weaver, thank you for your letter of 4 May. We are sorry that the parcel came late. The missing "
    "lamp was sent today, and the cost of delivery has been paid back to your account. Yours sincerely, the "
    "service team.",
    "In 1850 the town had a market, two churches and a school of sixty children. Forty years later the railway"
    " had come, and with it a glass works, a hospital and eleven thousand people, most of whom had been born "
    "somewhere else.",
    "Question: A farmer has 17 sheep and buys 8 more. How many has he then? Answer: 17 + 8 = 25. He has 25 "
    "sheep. Question: He sells 10 of them. How many are left? Answer: 25 - 10 = 15. There are 15 left.",
    "def average(values):\n"
    "    total = 0\n"
    "    for value in values:\n"
    "        total += value\n"
    "    return total / len(values)\n",
    "Der Bus nach Altdorf kommt um halb neun. Wer die Karten schon hat, geht gleich zum Eingang; alle anderen "
    "warten bitte links an der Kasse. Hunde und grosse Taschen bleiben draussen.",
    "Le chat dort sur la chaise pendant que la pluie tombe. Demain nous irons au marche acheter du pain, des "
    "pommes et du fromage, puis nous rentrerons par le chemin du moulin.",
    "A contract is an agreement that the law will enforce. It needs an offer, an acceptance and, in most "
    "places, something given in return. Signatures are usual but seldom required; what counts is that both "
    "sides meant to be bound.",
)
"""Written for this purpose: prose, a recipe, a letter, arithmetic, code, German and French."""


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
