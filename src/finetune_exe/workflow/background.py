"""Start long work in processes of its own, for callers that cannot wait, and stop it in good order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from finetune_exe.atomic import io_faults
from finetune_exe.errors import OK, RESUMABLE, FineTuneError
from finetune_exe.workflow.run_lock import training_process

_SOURCE = str(Path(__file__).resolve().parents[2])
_TAIL_BYTES = 6_000
Work = Literal["training", "evaluating", "exporting"]
Outcome = Literal["ended", "stopped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A process that was started, and what has become of it."""

    work: Work
    outcome: Outcome | None
    """None while it is at work."""


@dataclass(frozen=True, slots=True)
class Background:
    """The processes that this one started, by the run they work on. They live on when this process ends."""

    processes: dict[Path, tuple[Work, subprocess.Popen[bytes]]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, work: Work, arguments: Sequence[str], run: Path) -> int:
        """Start `fine-tune ARGUMENTS`, with its output in the run's log, and give the process id.

        Raises:
            FineTuneError: O02 where a process is at work on this run already; I01 where the log cannot be written.
        """
        with self.lock:
            earlier = self.state(run)
            if (earlier is not None and earlier.outcome is None) or training_process(run) is not None:
                raise FineTuneError(
                    "O02", what="a process is at work on this run already", where=str(run),
                    why="two of them would destroy each other's files", fix="wait for it, or stop it first",
                )  # fmt: skip
            log = self.log_of(run)
            with io_faults(log):
                log.parent.mkdir(parents=True, exist_ok=True)
                handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o644)
            with os.fdopen(handle, "ab") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "finetune_exe", *arguments], stdin=subprocess.DEVNULL, stdout=output,
                    stderr=output, env=own_environment(), start_new_session=True,
                )  # fmt: skip
            self.processes[run] = work, process
            return process.pid

    def state(self, run: Path) -> Started | None:
        """Say what has become of the process that was started for a run; None where none was."""
        if run not in self.processes:
            return None
        work, process = self.processes[run]
        outcomes: dict[int | None, Outcome | None] = {None: None, OK: "ended", RESUMABLE: "stopped"}
        return Started(work=work, outcome=outcomes.get(process.poll(), "failed"))

    @staticmethod
    def log_of(run: Path) -> Path:
        """Name the log beside a run's folder: what its processes say, even when they leave no folder."""
        return run.with_name(f"{run.name}.log")

    @staticmethod
    def log_tail(log: Path) -> str:
        """Read the end of a log; nothing where there is none."""
        try:
            with log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                return file.read().decode(errors="replace")
        except OSError:
            return ""


def own_environment() -> dict[str, str]:
    """Give the environment in which a child finds this very program."""
    paths = [_SOURCE, os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def stop_training(run: Path) -> int:
    """Ask the process that trains into a run to save and leave, and give its id.

    Raises:
        FineTuneError: A04 where there is none on this machine.
    """
    process = training_process(run)
    if process is not None:
        try:
            os.kill(process, signal.SIGTERM)
            return process
        except (ProcessLookupError, PermissionError):
            pass
    raise FineTuneError(
        "A04", what="nothing is training into this folder", where=str(run),
        why="no process of this user on this machine holds the run", fix="see how far it is: fine-tune debug RUN",
    )  # fmt: skip
