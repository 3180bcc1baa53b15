"""One step of training up to the optimizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from finetune_exe.models.forward import Rows
from finetune_exe.training.setup import Setup


class Learned(NamedTuple):
    """What a step came to."""

    loss: float
    """Mean over the step's learned tokens, in nats."""
    gradient_norm: float
    """Before clipping."""


def learn(setup: Setup, rows: Sequence[Rows], *, max_norm: float | None) -> Learned:
    """Leave the clipped gradient of one step to the optimizer.

    In float16 the loss is scaled up; where a gradient overflows, the step is computed again with half the scale, so
    that no row is lost.

    Args:
        setup: The model, whose earlier gradient is forgotten.
        rows: The step's micro-batches; the loss is one mean over all their learned tokens, or pairs.
        max_norm: Longest gradient; None does not clip.
    """
    import torch

    longest = math.inf if max_norm is None else max_norm
    while True:
        loss = _backward(setup, rows)
        if not setup.scaler.is_enabled():
            return Learned(loss, float(torch.nn.utils.clip_grad_norm_(setup.trainable, longest)))
        setup.scaler.unscale_(setup.optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(setup.trainable, longest))
        setup.scaler.update()
        if math.isfinite(norm) or not math.isfinite(loss) or setup.scaler.get_scale() < 1:
            return Learned(loss, norm)


def _backward(setup: Setup, rows: Sequence[Rows]) -> float:
    """Leave the gradient of the step's mean loss, scaled where there is a scaler, and return the loss."""
    setup.optimizer.zero_grad(set_to_none=True)
    setup.losses.restart()
    whole = sum(setup.losses.weight(batch) for batch in rows)
    loss = 0.0
    for batch in rows:
        share = setup.losses(batch).nll_N.sum() / whole
        setup.accelerator.backward(setup.scaler.scale(share))
        loss += float(share.detach())
    return loss
