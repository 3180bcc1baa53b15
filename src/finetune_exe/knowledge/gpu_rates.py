"""What GPUs really reach in training: of their peak rate, and in what they exchange."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache

from finetune_exe.knowledge.gpus import GpuFacts
from finetune_exe.knowledge.rows import read_rows

GPUS_OF_A_MACHINE = 8
"""GPUs that the links of one machine join. Source: github.com/stas00/ml-engineering, network/README.md: most have so
many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What joins the GPUs of a machine, and machines with such GPUs."""

    name: str
    gpus: tuple[str, ...]
    """Beginnings of the names of GPUs that have it."""
    gb_per_second: float
    """Between a GPU and all others of the machine, in one direction."""
    network_gb_per_second: float
    """Between a machine and all others, in one direction."""
    source: str
    date: date


@cache
def _links() -> tuple[Link, ...]:
    return read_rows("links.toml", key="link", kind=Link)


def link_of(gpu: GpuFacts) -> Link:
    """Give the link between GPUs of one kind; the last row holds for every one."""
    return next(link for link in _links() if gpu.name.startswith(link.gpus))


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
