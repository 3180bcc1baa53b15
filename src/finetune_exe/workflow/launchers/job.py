"""A training that is started in several processes, and what a launcher is."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from finetune_exe.atomic import write_file
from finetune_exe.domain.values import Hardware
from finetune_exe.errors import FineTuneError
from finetune_exe.workflow.run_folder import plain_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is started."""

    plan: Path
    run: Path
    options: tuple[str, ...]
    """Further options of `fine-tune train`, as typed."""
    processes: int
    """On all machines together."""
    machines: int = 1
    hardware: Hardware
    """What the plan was made for."""
    here: Callable[[], int]
    """Trains in this process and gives its exit status."""

    @property
    def processes_per_machine(self) -> int:
        """Processes on each machine."""
        return self.processes // self.machines

    @property
    def uses_gpus(self) -> bool:
        """Whether each process is meant to have a GPU of its own."""
        return bool(self.hardware.gpus)

    @property
    def arguments(self) -> tuple[str, ...]:
        """Arguments of `fine-tune` in each process."""
        return ("train", str(self.plan), "--run", str(self.run), *self.options)

    @property
    def command(self) -> tuple[str, ...]:
        """Program and arguments of each process, with the Python at hand."""
        return (sys.executable, "-m", "finetune_exe", *self.arguments)

    @property
    def name(self) -> str:
        """What a batch system calls the job."""
        return plain_name(self.run)

    def write(self, script: str, ending: str) -> Path:
        """Put a launcher's file beside the run's folder, which is not there yet, and give its place.

        Raises:
            FineTuneError: I01 where it cannot be written.
        """
        path = self.run.with_name(f"{self.run.name}.{ending}").absolute()
        write_file(path, script.encode())
        return path

    def line(self, *program: str) -> str:
        """Write a command for a shell: the program, then the arguments of `fine-tune`."""
        return shlex.join([*program, *self.arguments])


def refused(program: str, path: Path, why: str) -> FineTuneError:
    """Say that a batch system did not take a job."""
    return FineTuneError(
        "T23",
        what=f"{program} did not take the job",
        where=str(path),
        why=" ".join(why.split())[:300] or "it gave no reason",
        fix=f"change {path} to what the system wants and submit it by hand",
    )


class Launcher(Protocol):
    """One way of starting a job, as an entry of `LAUNCHERS`."""

    def script(self, job: Job) -> str:
        """Write what would be run, for `--dry-run`: a command, a batch script, a file."""

    def launch(self, job: Job, note: Callable[[str], object]) -> int:
        """Start the job and give its exit status; a batch system gives 0 once it has taken it."""
