"""Start processes that train together on this machine, watch them, and say which one ended the training."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from finetune_exe.errors import OK, RESUMABLE, FineTuneError
from finetune_exe.models.ranks import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

GPUS_VARIABLE = "CUDA_VISIBLE_DEVICES"
"""Environment variable: the GPUs that a process sees; empty for none, where it is set."""
SHUTDOWN_VARIABLE = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
"""Environment variable of torchrun: seconds that processes have to end by themselves where a signal asks for it. Its
own 30 would kill a run within a longer step or while it saves."""


class Ended(NamedTuple):
    """How one process ended: its number, and its exit status, negative for a signal."""

    rank: int
    status: int


def run_processes(command: Sequence[str], *, num_processes: int) -> int:
    """Run a command in several processes through torchrun's own agent until all have ended.

    Where one ends badly the others are ended too. The agent listens on a port that is free and keeps it. Each process
    sees one GPU, unless none is to be seen.

    Args:
        command: Program and arguments; what each process is, it reads from the environment.
        num_processes: How many.

    Returns:
        The exit status of the training: that of the process that failed, with its message on stderr; 0 where all went
        well; 75 where a signal asked for the end.

    Raises:
        FineTuneError: T21 where a process was killed.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault(SHUTDOWN_VARIABLE, f"{TIMEOUT_SECONDS:.0f}")
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=num_processes, max_restarts=0, rdzv_backend="c10d", run_id="fine-tune",
        rdzv_endpoint="127.0.0.1:0", virtual_local_rank=bool(os.environ.get(GPUS_VARIABLE, "all")),
        signals_to_handle="SIGTERM,SIGINT,SIGHUP,SIGUSR1",
    )  # fmt: skip
    program, *arguments = command
    try:
        elastic_launch(config, program)(*arguments)
    except ChildFailedError as fault:
        return judge([Ended(index, failure.exitcode) for index, failure in _by_time(fault.failures)])
    except SignalException:
        return RESUMABLE
    return OK


def judge(ended: Sequence[Ended]) -> int:
    """Find the cause among processes that ended badly, in the order in which they did.

    A process that lost the others says 75, and one that was ended because of another was ended by SIGTERM: they are the
    cause only where no other was.

    Raises:
        FineTuneError: T21 where one was killed by a signal.
    """
    killed = [process for process in ended if process.status < 0]
    hard = [process for process in killed if process.status != -signal.SIGTERM]
    statuses = [process.status for process in ended if process.status > 0]
    if hard or not statuses:
        raise _killed(hard or killed)
    return next((status for status in statuses if status != RESUMABLE), RESUMABLE)


def _killed(processes: Sequence[Ended]) -> FineTuneError:
    names = ", ".join(f"process {process.rank} by {signal.Signals(-process.status).name}" for process in processes)
    out_of_memory = " (the system kills so where memory runs out: dmesg | tail)" if _sigkill(processes) else ""
    return FineTuneError(
        "T21",
        what=f"the training was ended from outside: {names}",
        where="this machine" + out_of_memory,
        why="the other processes cannot go on without it and were ended; the last checkpoint is intact",
        fix="start the training again",
    )


def _sigkill(processes: Sequence[Ended]) -> bool:
    return any(process.status == -signal.SIGKILL for process in processes) and Path("/proc/meminfo").exists()


def _by_time(failures: Mapping[int, ProcessFailure]) -> list[tuple[int, ProcessFailure]]:
    return sorted(failures.items(), key=lambda item: (item[1].timestamp, item[0]))
