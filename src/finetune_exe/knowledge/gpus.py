"""Memory, rates and prices of GPUs."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from typing import Literal

from finetune_exe.domain.values import Gpu, Interval
from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.rows import compact, read_rows
from finetune_exe.units import GIB

_QUOTES_DIFFER = 2.0
"""Dearest quote over cheapest for the same card on the same day, as the table shows."""
_ANOTHER = frozenset({"ti", "super"})
"""Words that make another card of a name: who leaves one out does not mean the card that has it."""
_MOST_REFITTED = 2
"""Cards are sold with up to twice the memory of their maker's version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What somebody asks for one GPU."""

    usd_per_hour: float
    kind: Literal["on-demand", "spot", "serverless", "derived"]
    """"derived" is computed from the cost and time of a published run."""
    source: str
    date: str | None = None
    """Year, month and perhaps day; None where the page has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """One model of GPU; rates are dense peaks in TFLOP/s, 0 where there is no hardware for the format or no figure."""

    name: str
    vendor: str
    kind: Literal["data-centre", "workstation", "consumer"]
    memory_gib: float
    bandwidth_gb_per_second: float
    bf16: bool
    """Whether it computes bfloat16 in hardware."""
    bf16_tflops: float
    fp16_tflops: float
    fp32_tflops: float
    tf32_tflops: float
    source: str
    date: date
    compute_capability: str | None = None
    """NVIDIA's version of the instruction set; None for other makers."""
    prices: tuple[Price, ...] = ()

    @property
    def gpu(self) -> Gpu:
        """The GPU as a plan names it."""
        return Gpu(name=self.name, memory_bytes=round(self.memory_gib * GIB), bf16=self.bf16)

    @property
    def price_usd_per_hour(self) -> Interval | None:
        """From the cheapest to the dearest quote, never closer than quotes usually are; None without a quote."""
        if not self.prices:
            return None
        quotes = sorted(price.usd_per_hour for price in self.prices)
        mid = (quotes[0] * quotes[-1]) ** 0.5
        spread = max(quotes[-1] / quotes[0], _QUOTES_DIFFER) ** 0.5
        return Interval(low=mid / spread, mid=mid, high=mid * spread)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Name:
    """A GPU's name: what tells the chip from others, and the memory, where it is said."""

    chip: tuple[str, ...]
    memory_gib: int | None


@cache
def gpu_facts() -> tuple[GpuFacts, ...]:
    """Read all GPUs; where a short name fits several, the first is meant."""
    return read_rows("gpus.toml", key="gpu", kind=GpuFacts)


def find_gpu(name: str) -> GpuFacts:
    """Find a GPU by a name as people or drivers write it: "4090", "a100 40gb", "NVIDIA H100 80GB HBM3".

    A chip that is known with another memory than the one named is taken with the memory named, unless that is far
    more: "GH200 480GB" names the memory of the host.

    Raises:
        FineTuneError: H01, with the nearest names.
    """
    facts = known_gpu(name)
    if facts is not None:
        return facts
    known = {compact(facts.name): facts.name for facts in gpu_facts()}
    near = ", ".join(
        known[key] for key in difflib.get_close_matches("".join(_split(name).chip), known, n=3, cutoff=0.4)
    )
    raise FineTuneError(
        "H01",
        what=f"no GPU is known by the name {name!r}",
        where="the name of the GPU",
        why="its memory and speed are needed to plan for it",
        fix=f"{f'did you mean {near}? Or say' if near else 'say'} its memory instead, as in --vram 24; "
        "--cpu is this machine's processor",
    )


def known_gpu(name: str) -> GpuFacts | None:
    """Give the GPU that `find_gpu` would, or None."""
    wanted = _split(name)
    found = [facts for facts in gpu_facts() if _chip(facts) == wanted.chip]
    if not found and any(re.search(r"\d", word) for word in wanted.chip):
        loose = (
            facts
            for facts in gpu_facts()
            if set(wanted.chip) <= set(_chip(facts)) and not _ANOTHER & (set(_chip(facts)) - set(wanted.chip))
        )
        found = sorted(loose, key=lambda facts: len(_chip(facts)))
    for facts in found:
        if wanted.memory_gib in (None, facts.memory_gib):
            return facts
    if found and wanted.memory_gib is not None:
        if wanted.memory_gib > _MOST_REFITTED * found[0].memory_gib:
            return found[0]
        other = re.sub(r" \d+GB$", "", found[0].name)
        return replace(found[0], name=f"{other} {wanted.memory_gib}GB", memory_gib=wanted.memory_gib)
    return None


@cache
def _chip(facts: GpuFacts) -> tuple[str, ...]:
    return _split(facts.name).chip


_MEMORY = re.compile(r"(\d+) ?gi?b\b")
_NOISE = re.compile(
    r"\(.*?\)|\bhbm\d?[a-z]?\b|\b\d+ ?w(atts?)?\b|\b\d+[ -]?cores?\b"
    r"|\b(macbook|mac)( (pro|air|studio|mini))?\b|\bimac\b"
)
_MAKERS = {
    "nvidia", "geforce", "tesla", "quadro", "amd", "instinct", "radeon", "intel", "habana", "apple", "google", "gpu",
    "generation", "edition", "server", "workstation", "power", "limited",
}  # fmt: skip


def _split(name: str) -> _Name:
    """Split a name into words, without makers, clocks and cooling, and the memory."""
    text = _NOISE.sub(" ", name.lower())
    memory = _MEMORY.search(text)
    text = re.sub(r"\bsxm\d\b", "sxm", _MEMORY.sub(" ", text))
    text = re.sub(r"\b(rtx|gtx)(?=[a-z]?\d)", r"\1 ", text)
    words = (word for word in re.findall(r"[a-z0-9.]+", text) if word not in _MAKERS)
    return _Name(chip=tuple(words), memory_gib=int(memory[1]) if memory else None)
