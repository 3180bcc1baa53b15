"""Memory and peak rates of GPUs."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from datetime import date
from functools import cache

from finetune_exe.domain.values import Gpu
from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.rows import compact, read_rows
from finetune_exe.units import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """One model of GPU."""

    name: str
    memory_gib: float
    bf16: bool
    """Whether it computes bfloat16 in hardware."""
    bf16_tflops: float
    """Dense peak in bfloat16; 0 without hardware for it."""
    fp32_tflops: float
    source: str
    date: date

    @property
    def gpu(self) -> Gpu:
        """The GPU as a plan names it."""
        return Gpu(name=self.name, memory_bytes=round(self.memory_gib * GIB), bf16=self.bf16)


@cache
def gpu_facts() -> tuple[GpuFacts, ...]:
    """Read all GPUs; where a short name fits several, the first is meant."""
    return read_rows("gpus.toml", key="gpu", kind=GpuFacts)


def find_gpu(name: str) -> GpuFacts:
    """Find a GPU by a name as people or drivers write it: "4090", "a100 40gb", "NVIDIA H100 80GB HBM3".

    Raises:
        FineTuneError: H01, with the nearest names.
    """
    words = _words(name)
    if words:
        exact = (facts for facts in gpu_facts() if words in (_words(facts.name), _words(facts.name)[:-1]))
        loose = (facts for facts in gpu_facts() if set(words) <= set(_words(facts.name)))
        for facts in (*exact, *loose):
            return facts
    known = {compact(facts.name): facts.name for facts in gpu_facts()}
    near = ", ".join(known[key] for key in difflib.get_close_matches("".join(words), known, n=3, cutoff=0.4))
    raise FineTuneError(
        "H01",
        what=f"no GPU is known by the name {name!r}",
        where="the name of the GPU",
        why="its memory and speed are needed to plan for it",
        fix=f"{f'did you mean {near}? Or say' if near else 'say'} its memory instead, as in --vram 24",
    )


def _words(name: str) -> list[str]:
    """Split a name into words, without makers' names and with the memory as one word."""
    text = re.sub(r"(\d+) ?gi?b\b", r"\1gb", name.lower())
    text = re.sub(r"\bsxm\d\b", "sxm", text)
    text = re.sub(r"\brtx(?=\d)", "rtx ", text)
    dropped = {
        "nvidia",
        "geforce",
        "tesla",
        "gpu",
        "hbm3",
        "hbm3e",
        "hbm2e",
        "generation",
        "edition",
        "server",
        "quadro",
    }
    return [word for word in re.findall(r"[a-z0-9.]+", text) if word not in dropped]
