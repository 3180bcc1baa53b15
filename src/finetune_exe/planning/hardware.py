"""What machine there is, or is wished for."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from itertools import takewhile
from pathlib import Path

from finetune_exe.domain.values import Gpu, Hardware
from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.gpus import find_gpu
from finetune_exe.units import GIB, MIB

_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def detect_hardware() -> Hardware:
    """Look at this machine: processor, cores and memory this process may use, NVIDIA GPUs."""
    cpuinfo = _read(Path("/proc/cpuinfo"))
    name = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    flags = re.search(r"^flags\s*: (.+)$", cpuinfo, re.MULTILINE)
    present = flags[1].split() if flags else []
    return Hardware(
        cpu=name[1].strip() if name else platform.processor() or platform.machine() or "unknown processor",
        num_cores=_num_cores(),
        memory_bytes=_memory_bytes(),
        cpu_features=tuple(feature for feature in _FEATURES if feature in present),
        gpus=_nvidia_gpus(),
        disk_free_bytes=shutil.disk_usage(Path.cwd()).free,
    )


def parse_hardware(text: str) -> Hardware:
    """Understand a wished-for machine: "RTX 4090", "8xH100", "L4 x2", or the memory of one GPU, "24" or "24 GiB".

    The host of such a machine is not said: it has no cores and no memory here, and nothing is planned for it.

    Raises:
        FineTuneError: H01 where no such GPU is known.
    """
    memory = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:gi?b?)?\s*", text, re.IGNORECASE)
    if memory and 1 <= float(memory[1]) <= 1024:
        gpus = (Gpu(name=f"a GPU with {memory[1]} GiB", memory_bytes=round(float(memory[1]) * GIB), bf16=True),)
        return Hardware(cpu="unspecified host", num_cores=0, memory_bytes=0, gpus=gpus)
    many = re.fullmatch(r"\s*(?P<count>\d{1,4})\s*[x*×]\s*(?P<name>.+)", text, re.IGNORECASE) or re.fullmatch(
        r"\s*(?P<name>.*(?:\s|\d|gi?b))[x*×]\s*(?P<count>\d{1,2})\s*", text, re.IGNORECASE
    )
    count, name = (int(many["count"]), many["name"]) if many else (1, text)
    if count == 0:
        raise FineTuneError(
            "H01",
            what=f"{text!r} is no GPU at all",
            where="the name of the GPU",
            why="a plan needs something to run on",
            fix="say --cpu to plan for the processor, or a GPU such as --gpu 'RTX 4090'",
        )
    return Hardware(cpu="unspecified host", num_cores=0, memory_bytes=0, gpus=(find_gpu(name).gpu,) * count)


def _num_cores() -> int:
    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        usable = os.cpu_count() or 1
    quota = _read(Path("/sys/fs/cgroup/cpu.max")).split()
    if len(quota) == 2 and quota[0].isdigit():
        usable = min(usable, max(1, int(quota[0]) // int(quota[1])))
    return usable


def _memory_bytes() -> int:
    """Memory of the machine, or less where the control group allows less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [physical]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _read(Path(path)).strip()
        if limit.isdigit():
            limits.append(int(limit))
    return min(limits)


def visible_gpus(gpus: tuple[Gpu, ...], named: str | None) -> tuple[Gpu, ...]:
    """Leave the GPUs that programs are to see.

    Args:
        gpus: Of this machine.
        named: $CUDA_VISIBLE_DEVICES: their numbers or names, up to an empty one or -1; None for all. Of names that are
            no numbers only how many there are is known here.
    """
    if named is None:
        return gpus
    names = takewhile(lambda name: name not in ("", "-1"), (name.strip() for name in named.split(",")))
    places = (int(name) if name.isdigit() else place for place, name in enumerate(names))
    return tuple(gpus[place] for place in takewhile(lambda place: place < len(gpus), places))


def _nvidia_gpus() -> tuple[Gpu, ...]:
    if shutil.which("nvidia-smi") is None:
        return ()
    query = ["nvidia-smi", "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_nvidia_smi(answer)


def parse_nvidia_smi(answer: str) -> tuple[Gpu, ...]:
    """Read the lines `name, MiB, compute capability` of nvidia-smi; a line that is none is passed over."""
    gpus = []
    for line in answer.splitlines():
        match = re.fullmatch(r"(.+), (\d+), (\d+)\.\d+", line.strip())
        if match:
            gpus.append(Gpu(name=match[1], memory_bytes=int(match[2]) * MIB, bf16=int(match[3]) >= 8))
    return tuple(gpus)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
