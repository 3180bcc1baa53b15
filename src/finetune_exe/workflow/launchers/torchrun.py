"""Several processes on this machine, through torchrun's agent."""

from __future__ import annotations

import os
from collections.abc import Callable

from finetune_exe.errors import FineTuneError
from finetune_exe.workflow.launchers.job import Job


class Torchrun:
    """One process for each GPU of this machine, or several on its processor."""

    def script(self, job: Job) -> str:
        """Write the command of torchrun that does the same."""
        return job.line("torchrun", "--nproc-per-node", str(job.processes), "--virtual-local-rank", "-m",
                        "finetune_exe") + "\n"  # fmt: skip

    def launch(self, job: Job, note: Callable[[str], object]) -> int:
        """Run the processes until all have ended.

        Raises:
            FineTuneError: T02 where there are fewer GPUs than processes, T21 where one was killed.
        """
        from finetune_exe.models.load import require_training_packages
        from finetune_exe.planning.hardware import detect_hardware, visible_gpus

        require_training_packages()
        from finetune_exe.training.elastic import run_processes

        hardware = detect_hardware()
        there = len(visible_gpus(hardware.gpus, os.environ.get("CUDA_VISIBLE_DEVICES")))
        if there < job.processes and (there or job.uses_gpus):
            raise FineTuneError(
                "T02",
                what=f"{job.processes} processes want a GPU each, and this machine has {there}",
                where="parallelism.num_gpus in the plan, or --processes",
                why="two processes on one GPU would take its memory from each other and be slower than one",
                fix=f"--processes {max(1, there)}; or --launch slurm, ray or skypilot with --machines; "
                "or plan for this machine: fine-tune analyze",
            )
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, hardware.num_cores // job.processes)))
        return run_processes(job.command, num_processes=job.processes)
