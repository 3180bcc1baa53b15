"""Correction of estimates by the ledger: recovers a known bias, covers what it should, needs enough runs."""

import math

import numpy as np
import pytest

from finetune_exe.domain.values import Estimate, Interval
from finetune_exe.estimate.calibration import ENOUGH, LedgerEntry, calibrated

RAW = Estimate(
    value=Interval(low=50.0, mid=100.0, high=200.0), unit="seconds", reason="r", source="s", parts={"training": 100.0}
)


def entry(ratio: float, *, method: str = "lora", processor: str = "cpu") -> LedgerEntry:
    return LedgerEntry(
        date="2026-11-22", model="m", method=method, processor=processor, base_dtype="bfloat16", micro_batch=1, seq_len=8,
        grad_checkpointing=False, predicted={"duration": 10.0}, measured={"duration": 10.0 * ratio},
    )  # fmt: skip


def corrected(ledger: list[LedgerEntry]) -> Estimate:
    return calibrated(RAW, "duration", method="lora", processor="cpu", ledger=ledger)


def test_a_constant_bias_is_learned_and_the_interval_shrinks() -> None:
    found = corrected([entry(1.5)] * 30)
    assert found.value.mid == pytest.approx(150, rel=0.03)
    assert found.value.high / found.value.low < RAW.value.high / RAW.value.low
    assert sum(found.parts.values()) == pytest.approx(found.value.mid)
    assert "30 finished runs" in found.reason


def test_runs_too_few_or_unlike_change_nothing() -> None:
    assert corrected([entry(3.0)] * (ENOUGH - 1)) == RAW
    assert corrected([entry(3.0, method="full"), entry(3.0, processor="gpu")] * 5) == RAW


def test_nine_in_ten_further_runs_fall_inside() -> None:
    chance = np.random.default_rng(0)
    inside = 0
    trials = 2000
    for _ in range(trials):
        found = corrected([entry(math.exp(chance.normal(0.3, 0.2))) for _ in range(8)])
        inside += found.value.contains(100.0 * math.exp(chance.normal(0.3, 0.2)))
    assert 0.85 <= inside / trials <= 0.96
