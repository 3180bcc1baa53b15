"""How much memory a run really took."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

STATUS = Path("/proc/self/status")


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
