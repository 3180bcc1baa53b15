"""How much memory a run really took."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune_exe.errors import FineTuneError

STATUS = Path("/proc/self/status")
_OUT_OF_MEMORY = re.compile(
    r"out of memory|not enough memory|can't allocate memory|unable to allocate|ALLOC_FAILED", re.IGNORECASE
)


def is_out_of_memory(fault: BaseException) -> bool:
    """Say whether a fault means that memory ran out, on the GPU or beside it."""
    return isinstance(fault, MemoryError) or (
        isinstance(fault, RuntimeError) and _OUT_OF_MEMORY.search(str(fault)) is not None
    )


def words_of(fault: BaseException) -> str:
    """Give what an allocator said, on one line."""
    return " ".join(str(fault).split())[:200]


@contextmanager
def memory_faults(where: str) -> Iterator[None]:
    """Turn memory that runs out in the block, where nothing can be tried again with fewer rows, into error T14."""
    try:
        yield
    except (MemoryError, RuntimeError) as fault:
        if not is_out_of_memory(fault):
            raise
        raise FineTuneError(
            "T14",
            what="memory runs out",
            where=where,
            why=words_of(fault) or "the system gives no more",
            fix="close other programs and go on with --resume, if this is a run that saved a checkpoint; or "
            "method.kind=qlora, optimizer.kind=adamw_8bit or a smaller model, which take less",
        ) from fault


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
