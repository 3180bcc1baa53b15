"""How much of their peak rate accelerators reach in training."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache

from finetune_exe.knowledge.gpus import GpuFacts
from finetune_exe.knowledge.rows import read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Utilisation:
    """What one generation of accelerators reaches."""

    generation: str
    matmul_share: float
    """Share of the dense 16-bit peak that large matrix products reach."""
    source: str
    date: date


@cache
def _utilisations() -> tuple[Utilisation, ...]:
    return read_rows("utilisation.toml", key="utilisation", kind=Utilisation)


def utilisation(gpu: GpuFacts) -> Utilisation:
    """Give what a GPU's generation reaches; the last row holds for every one."""
    names = (gpu.compute_capability or "", gpu.vendor)
    return next(row for row in _utilisations() if any(name.startswith(row.generation) for name in names))
