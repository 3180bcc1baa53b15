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

    Args:
        setup: The model, whose earlier gradient is forgotten.
        rows: The step's micro-batches; the loss is one mean over all their learned tokens.
        max_norm: Longest gradient; None does not clip.
    """
    import torch

    setup.optimizer.zero_grad(set_to_none=True)
    num_learned = sum(batch.num_learned for batch in rows)
    loss = 0.0
    for batch in rows:
        share = setup.losses(batch).nll_N.sum() / num_learned
        setup.accelerator.backward(share)
        loss += float(share.detach())
    norm = torch.nn.utils.clip_grad_norm_(setup.trainable, math.inf if max_norm is None else max_norm)
    return Learned(loss, float(norm))
