"""Decide which rows meet in which step, reproducibly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finetune_exe.domain.plan import Batch, Schedule
from finetune_exe.estimate.rows import GROUPED_STEPS, share_out

Step = list[list[int]]
"""The micro-batches of one optimizer step, each a list of sequence indices."""


def plan_epoch(lengths: Sequence[int], batch: Batch, *, seed: int, epoch: int) -> list[Step]:
    """Arrange one epoch.

    The rows of a step depend on the effective batch alone, so that 8 x 1 and 1 x 8 learn from the same rows in
    the same steps. Every sequence is used once; the last step may be smaller.

    Args:
        lengths: Tokens of each sequence.
        batch: Micro-batch, accumulation, and whether rows of like length are grouped and rows packed.
        seed: The run's seed.
        epoch: Epoch number from 0; each has an order of its own.

    Returns:
        The steps, in order.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lengths))
    size = batch.effective
    if batch.group_by_length:
        window = size * GROUPED_STEPS
        by_length = np.asarray(lengths)
        order = np.concatenate([part[np.argsort(by_length[part], kind="stable")] for part in _parts(order, window)])
    steps = _parts(order, size)
    if batch.group_by_length:
        steps = [steps[index] for index in rng.permutation(len(steps))]
    return [_micro_batches(step, lengths, batch) for step in steps]


def count_steps(num_sequences: int, batch: Batch, schedule: Schedule) -> int:
    """Count the optimizer steps of a run, at least one."""
    per_epoch = -(-num_sequences // batch.effective)
    steps = max(1, round(per_epoch * schedule.epochs))
    return steps if schedule.max_steps is None else min(steps, schedule.max_steps)


def _parts(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def _micro_batches(step: np.ndarray, lengths: Sequence[int], batch: Batch) -> Step:
    """Cut the rows of a step into passes; packed, passes of about as many tokens, so that none holds far more."""
    if batch.packing:
        shares = share_out([lengths[row] for row in step], batch.micro_batch_size)
        return [step[share].tolist() for share in shares]
    return [part.tolist() for part in _parts(step, batch.micro_batch_size)]
