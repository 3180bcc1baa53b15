"""One step of training up to the optimizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from finetune_exe.models.forward import Rows, idle_rows
from finetune_exe.training.memory import is_out_of_memory
from finetune_exe.training.setup import Setup
from finetune_exe.training.sharding import computed_together, plain_number


class Learned(NamedTuple):
    """What a step came to."""

    loss: float
    """Mean over the step's learned tokens, in nats."""
    gradient_norm: float
    """Before clipping."""


class TokenCounts(NamedTuple):
    """Tokens of one process in one step."""

    learned: int
    processed: int
    """Of all rows, each counted whole."""
    padded: int
    """The same with padding."""
    shared: int
    """Of them, those not computed because an earlier row of the pass begins with the same."""


def count_tokens(rows: Sequence[Rows]) -> TokenCounts:
    """Count the tokens of micro-batches."""
    shared = sum(batch.num_shared for batch in rows)
    return TokenCounts(
        learned=sum(batch.num_learned for batch in rows),
        processed=sum(batch.num_tokens for batch in rows),
        padded=sum(batch.ids_BT.numel() for batch in rows) + shared,
        shared=shared,
    )


def learn(setup: Setup, rows: Sequence[Rows], *, max_norm: float | None) -> Learned:
    """Leave the clipped gradient of one step to the optimizer.

    In float16 the loss is scaled up; where a gradient overflows, the step is computed again with half the scale, so
    that no row is lost.

    Args:
        setup: The model, whose earlier gradient is forgotten.
        rows: This process's micro-batches of the step; the loss is one mean over the learned tokens, or pairs, of all
            processes.
        max_norm: Longest gradient; None does not clip.
    """
    import torch

    longest = math.inf if max_norm is None else max_norm
    while True:
        loss = _backward(setup, rows)
        with computed_together(setup.ranks, "length of the gradient"):
            if setup.scaler.is_enabled():
                setup.scaler.unscale_(setup.optimizer)
            norm = plain_number(torch.nn.utils.clip_grad_norm_(setup.trainable, longest))
        if not setup.scaler.is_enabled():
            return Learned(loss, norm)
        setup.scaler.update()
        if math.isfinite(norm) or not math.isfinite(loss) or setup.scaler.get_scale() < 1:
            return Learned(loss, norm)


def _backward(setup: Setup, rows: Sequence[Rows]) -> float:
    """Leave the gradient of the step's mean loss, scaled where there is a scaler, and return the loss.

    Memory that runs out in one process is an error in all of them at the same place, so that they can try again
    together; not where they hold parts of one model, for then they wait for each other within a pass.
    """
    setup.optimizer.zero_grad(set_to_none=True)
    setup.losses.restart()
    num_idle = round(setup.ranks.largest(len(rows))) - len(rows) if setup.ranks.is_sharded else 0
    (whole,) = setup.ranks.totals(sum(setup.losses.weight(batch) for batch in rows))
    loss, fault = 0.0, None
    try:
        for batch in rows:
            share = setup.losses(batch).nll_N.sum() / whole
            with computed_together(setup.ranks, "gradients of a pass"):
                setup.scaler.scale(share).backward()
            loss += float(share.detach())
    except (MemoryError, RuntimeError) as raised:
        if setup.ranks.is_sharded or not is_out_of_memory(raised):
            raise
        fault = raised
    for _ in range(num_idle):
        nothing = 0.0 * setup.losses(idle_rows(setup.device)).nll_N.sum()
        with computed_together(setup.ranks, "gradients of a pass"):
            nothing.backward()
    loss, num_faults = setup.ranks.totals(loss, float(fault is not None))
    if num_faults:
        raise fault or MemoryError("memory ran out in another process of this training")
    setup.ranks.add_gradients(setup.trainable)
    return loss
