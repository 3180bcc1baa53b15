"""A batch script for SLURM: one task for each process, on as many machines as are wished for."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable

from finetune_exe.errors import OK, FineTuneError
from finetune_exe.workflow.launchers.job import Job, refused

SECONDS_TO_SAVE = 120
"""SLURM asks the processes to end so long before the time is over."""


class Slurm:
    """Submits a batch script."""

    def script(self, job: Job) -> str:
        """Write the batch script."""
        name = job.name
        options = [
            f"--job-name={name}",
            f"--nodes={job.machines}",
            f"--ntasks-per-node={job.processes_per_machine}",
            *(["--gpus-per-task=1"] if job.uses_gpus else []),
            f"--output={name}.%j.log",
            "--open-mode=append",
            f"--signal=TERM@{SECONDS_TO_SAVE}",
        ]
        lines = [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in options),
            "set -euo pipefail",
            "# the first machine is where the processes meet",
            'MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"',
            "MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))",
            'OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"',
            "export MASTER_ADDR MASTER_PORT OMP_NUM_THREADS",
            "srun --kill-on-bad-exit=1 " + shlex.join(job.command),
        ]
        return "\n".join(lines) + "\n"

    def launch(self, job: Job, note: Callable[[str], object]) -> int:
        """Write the script beside the run's folder and submit it.

        Raises:
            FineTuneError: X01 where this machine has no sbatch, T23 where SLURM refuses.
        """
        if shutil.which("sbatch") is None:
            raise FineTuneError(
                "X01",
                what="sbatch is not on this machine",
                where="PATH",
                why="a job is submitted from a machine that belongs to the cluster",
                fix="add --dry-run > job.sh, and there: sbatch job.sh",
            )
        path = job.write(self.script(job), "slurm.sh")
        done = subprocess.run(["sbatch", str(path)], capture_output=True, text=True, check=False)
        if done.returncode != OK:
            raise refused("sbatch", path, done.stderr or done.stdout)
        note(f"{done.stdout.strip()} ({path})")
        return OK
