"""What processors really compute in a training step."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from functools import cache

from finetune_exe.knowledge.rows import read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuRates:
    """Rates of one core with an instruction set, in GFLOP/s."""

    features: tuple[str, ...]
    peak_bf16_gflops: float
    peak_fp32_gflops: float
    effective_bf16_gflops: float
    """In a LoRA training step of a small model."""
    effective_fp32_gflops: float
    source: str
    date: date


@cache
def _rates() -> tuple[CpuRates, ...]:
    return read_rows("cpus.toml", key="cpu", kind=CpuRates)


def cpu_rates(features: Collection[str]) -> CpuRates:
    """Give the rates of a processor by its instruction sets; the last row needs none, so there always is one."""
    return next(rates for rates in _rates() if set(rates.features) <= set(features))
