"""Failures of memory, disk and speed."""

from __future__ import annotations

from finetune_exe.diagnosis.rules.rule import Cause, Sign, Tale

CAUSES = (
    Cause(
        label="oom",
        title="Out of memory",
        cause="Weights, optimizer states, activations and logits together need more than the device, or the host, has.",
        fix="Halve the micro batch and double the accumulation steps, which trains the same; turn"
        " gradient checkpointing"
        " on; shorten the longest sequence. If the process was killed without a CUDA message, it"
        " was the host's memory:"
        " load less at once, or raise the container's limit.",
        signs=(
            Sign(pattern=r"(cuda|hip|xpu|mps|npu)\b.{0,20}out of memory|OutOfMemoryError", strength=0.97),
            Sign(
                pattern=r"DefaultCPUAllocator|can't allocate memory|cannot allocate memory|not enough memory",
                strength=0.95,
            ),
            Sign(
                pattern=r"RESOURCE_EXHAUSTED|CUBLAS_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation"
                r"|CUDA_ERROR_OUT_OF_MEMORY",
                strength=0.9,
            ),
            Sign(pattern=r"CUBLAS_STATUS_NOT_INITIALIZED", strength=0.5),
            Sign(pattern=r"^MemoryError|Unable to allocate .{0,40} for an array|std::bad_alloc", strength=0.9),
            Sign(
                pattern=r"exit ?code\s*[:=]?\s*(-9|137)\b|signal\s*[:=]?\s*(9\b|SIGKILL)|oom[-_ ]?kill"
                r"|^\W*killed\W*$",
                strength=0.8,
            ),
            Sign(pattern=r"insufficient shared memory|DataLoader worker .{0,30}killed by signal", strength=0.8),
            Sign(pattern=r"out of (v?ram|memory)", strength=0.85, unless=r"shared|to avoid|if you"),
            Sign(pattern=r"_resize_\(|_alloc_padded_unsharded|_alloc_storage\(", strength=0.6),
        ),
        tales=(
            Tale(
                words=(
                    r"\booms?\b|oomed|out[- ]of[- ]memory|(run|ran|running)s? out of (gpu |cpu |system |host"
                    r" )?(memory|v?ram)",
                ),
                strength=0.9,
            ),
            Tale(
                words=(
                    r"(memory|v?ram)\b.{0,40}\b(full|exhausted|exceed|grow|maximum|limit|explod|leak)"
                    r"|exceed\w*.{0,20}(memory|v?ram)",
                ),
                strength=0.75,
            ),
            Tale(words=(r"\bkilled\b|exit code:? ?-?9\b|sigkill",), strength=0.7),
        ),
        patch={"batch.micro_batch_size": 1, "precision.gradient_checkpointing": True},
    ),
    Cause(
        label="disk_full",
        title="The disk, or the quota on it, is full",
        cause="A file could not be written whole; what lies there under its name is damaged.",
        fix="Free space or raise the quota where checkpoints and caches go, delete the last,"
        " incomplete checkpoint, and resume.",
        signs=(
            Sign(pattern=r"No space left on device|Disk quota exceeded|Errno 28\b|Errno 122\b", strength=0.97),
            Sign(pattern=r"PytorchStreamWriter failed writing|file write failed|unexpected pos \d+ vs", strength=0.9),
            Sign(pattern=r"not enough (free )?disk space|StorageFull|I/O error.{0,40}space", strength=0.9),
        ),
        tales=(
            Tale(words=(r"(disk|volume|quota|partition).{0,30}(full|exceed|no space)|no space left",), strength=0.8),
        ),
        patch={"checkpoints.keep_last": 1},
    ),
    Cause(
        label="slow_training",
        title="Training is far slower than the hardware allows",
        cause="Time goes into moving data instead of computing: offloading to the CPU, a slow link"
        " between GPUs, a starved"
        " data loader, or recomputation that is not needed.",
        fix="Look at GPU utilisation and power. Turn off offloading that the memory does not need,"
        " prefer ZeRO-2 or DDP to"
        " ZeRO-3 on slow links, give the loader more workers, and group rows by length.",
        tales=(
            Tale(
                words=(r"(?<!not )\b(slow(er|ly)?|sluggish)\b",),
                strength=0.6,
                unless=r"slow(ly)? (rise|increas|grow|decreas|fall)",
            ),
            Tale(
                words=(
                    r"\b(gpu|cuda)\b.{0,20}(utili[sz]ation|usage|util)|under-?utili[sz]ed|power draw"
                    r"|gpu.{0,20}idle",
                ),
                strength=0.6,
                unless=r"out of memory|\boom\b",
            ),
            Tale(
                words=(
                    r"\d+\s*(hours?|h|minutes?|min|days?)\b.{0,20}\b(per|for|each)\b.{0,12}(epoch|step"
                    r"|iteration|batch)"
                    r"|steps? (take|takes|took) \d+|takes? (forever|too long|ages)",
                ),
                strength=0.6,
            ),
        ),
        patch={"batch.group_by_length": True, "precision.gradient_checkpointing": False},
    ),
)
