"""Estimates corrected by what finished runs measured: the ledger of predictions, and what follows from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from finetune_exe.domain.values import Estimate, Interval

Quantity = Literal["memory", "speed", "duration"]
ENOUGH = 3
"""Runs alike below which nothing is corrected."""
_FLOOR = 0.05
"""Half-width of a corrected interval is never less than this share: runs repeat no better."""
_NORMAL_90 = 1.645


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One finished run: what was predicted of it and what it measured."""

    date: str
    """Day it finished, as 2026-11-22."""
    model: str
    method: str
    processor: str
    """Name of the GPU, or of the CPU."""
    base_dtype: str
    micro_batch: int
    seq_len: int
    grad_checkpointing: bool
    predicted: dict[Quantity, float]
    """Middle of the estimate, before any correction, in the estimate's unit."""
    measured: dict[Quantity, float]


def calibrated(
    estimate: Estimate, quantity: Quantity, *, method: str, processor: str, ledger: Sequence[LedgerEntry]
) -> Estimate:
    """Correct an estimate by the ratios of measured to predicted in runs alike: same method, same processor.

    The correction is the geometric mean of the n ratios, pulled towards none with the weight of one run; the new
    interval is a 90 % prediction interval for a further run under a log-normal spread.

    Returns:
        The estimate unchanged where fewer than `ENOUGH` runs are alike; otherwise one whose source names them.
    """
    logs = [
        math.log(entry.measured[quantity] / entry.predicted[quantity])
        for entry in ledger
        if (entry.method, entry.processor) == (method, processor)
        and entry.predicted.get(quantity, 0) > 0
        and entry.measured.get(quantity, 0) > 0
    ]
    count = len(logs)
    if count < ENOUGH:
        return estimate
    factor = math.exp(statistics.fmean(logs) * count / (count + 1))
    spread = statistics.stdev(logs) * math.sqrt(1 + 1 / count)
    half = max(math.log1p(_FLOOR), _NORMAL_90 * spread * (1 + 1 / count))
    mid = estimate.value.mid * factor
    parts = {**estimate.parts, "calibration": mid - estimate.value.mid} if estimate.parts else {}
    return estimate.model_copy(
        update={
            "value": Interval(low=mid * math.exp(-half), mid=mid, high=mid * math.exp(half)),
            "reason": f"{estimate.reason}; times {factor:.2f}, as {count} finished runs of this method here measured",
            "source": f"{estimate.source}; ledger of runs on this machine",
            "parts": parts,
        }
    )
