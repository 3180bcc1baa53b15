"""How much memory a run really took."""

from __future__ import annotations

import ctypes
import gc
import re
from pathlib import Path

STATUS = Path("/proc/self/status")
_OUT_OF_MEMORY = re.compile(
    r"out of memory|not enough memory|can't allocate memory|unable to allocate|ALLOC_FAILED", re.IGNORECASE
)


def is_out_of_memory(fault: BaseException) -> bool:
    """Say whether a fault means that memory ran out, on the GPU or beside it."""
    return isinstance(fault, MemoryError) or (
        isinstance(fault, RuntimeError) and _OUT_OF_MEMORY.search(str(fault)) is not None
    )


def release_memory(device: str) -> None:
    """Give back what is no longer used."""
    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def start_measuring(device: str) -> None:
    """Give back what is no longer used and forget earlier peaks, so that the next reading is this run's own."""
    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # not glibc on Linux, or not allowed: the peak is then that of the whole process


def peak_memory_bytes(device: str) -> int:
    """Read the peak since `start_measuring`: allocated memory on a GPU, resident memory of the process on a CPU."""
    import torch

    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
