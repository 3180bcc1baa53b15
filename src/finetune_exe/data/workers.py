"""Encode shards in processes of this machine."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from finetune_exe.data.shards import ShardJob, encode_shard
from finetune_exe.errors import FineTuneError
from finetune_exe.text.tokenizer import ChatTokenizer
from finetune_exe.units import format_bytes

Told = Callable[[ShardJob], object]
"""Told when a shard is done."""
ATTEMPTS = 2
"""Processes that may die over one shard before that is taken for a fault."""
_SOURCE = str(Path(__file__).resolve().parents[2])


def encode_here(jobs: Sequence[ShardJob], tokenizer: ChatTokenizer, *, told: Told) -> None:
    """Encode shards one after the other in this process."""
    for job in jobs:
        encode_shard(job, tokenizer)
        told(job)


def encode_in_processes(jobs: Sequence[ShardJob], *, num_workers: int, told: Told) -> None:
    """Encode shards in several processes; one that dies is replaced and its shard begun again.

    Args:
        jobs: The shards.
        num_workers: Processes at once.
        told: Called, one at a time, for each finished shard.

    Raises:
        FineTuneError: D31 where processes keep dying; what a worker was refused.
    """
    crew = _Crew(jobs, told)
    threads = [threading.Thread(target=crew.work, daemon=True) for _ in range(min(num_workers, len(jobs)))]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        crew.end()
    if crew.fault is not None:
        raise crew.fault


class _Crew:
    """Hands out shards to processes, each led by one thread."""

    def __init__(self, jobs: Sequence[ShardJob], told: Told) -> None:
        self._jobs: queue.SimpleQueue[ShardJob] = queue.SimpleQueue()
        for job in jobs:
            self._jobs.put(job)
        self._told = told
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[str]] = set()
        self._ended = False
        self.fault: BaseException | None = None

    def work(self) -> None:
        """Lead one process after the other until nothing is left to do."""
        try:
            with tempfile.TemporaryFile("w+") as complaints:
                self._work(complaints)
        except BaseException as fault:  # noqa: BLE001 - it is raised again by the thread that waits
            self.fault = self.fault or fault

    def _work(self, complaints: IO[str]) -> None:
        process: subprocess.Popen[str] | None = None
        while self.fault is None and not self._ended:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            for attempt in range(ATTEMPTS):
                if process is None or process.poll() is not None:
                    process = self._start(complaints)
                if _ask(process, job):
                    break
                process.wait()
                if attempt == ATTEMPTS - 1 and self.fault is None:
                    raise _died(job, process.returncode, complaints)
            with self._lock:
                self._told(job)
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait()

    def _start(self, complaints: IO[str]) -> subprocess.Popen[str]:
        paths = [_SOURCE, os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ, "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }  # fmt: skip
        with self._lock:
            if self._ended:
                raise InterruptedError("the work was broken off")
            process = subprocess.Popen(
                [sys.executable, "-m", "finetune_exe.data.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment,
            )  # fmt: skip
            self._processes.add(process)
        return process

    def end(self) -> None:
        """End every process that still runs, and begin no other."""
        with self._lock:
            self._ended = True
            for process in self._processes:
                if process.poll() is None:
                    process.kill()
                process.wait()
                for stream in (process.stdin, process.stdout):
                    if stream is not None:
                        with suppress(OSError):  # what a dead process was still to be told
                            stream.close()


def _ask(process: subprocess.Popen[str], job: ShardJob) -> bool:
    """Send a job and wait for the answer; False where the process died over it.

    Raises:
        FineTuneError: The worker met a fault the user can mend.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(job.to_json() + "\n")
        process.stdin.flush()
    except OSError:
        return False
    answer = process.stdout.readline()
    if not answer.endswith("\n"):
        return False
    fault = json.loads(answer).get("fault")
    if fault is not None:
        raise FineTuneError(fault.pop("code"), **fault)
    return True


def _largest_bytes() -> int:
    """Give the most memory that any process held which this one started and that has ended."""
    import resource

    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return largest if sys.platform == "darwin" else largest << 10


def _died(job: ShardJob, status: int, complaints: IO[str]) -> FineTuneError:
    complaints.seek(0)
    said = complaints.read().strip().splitlines()
    return FineTuneError(
        "D31",
        what=f"{ATTEMPTS} processes ended before their work was done",
        where=f"rows of {job.rows}, exit status {status}",
        why=said[-1][:300]
        if said
        else "the last was killed from outside, as happens when memory runs out"
        f"; the largest held {format_bytes(_largest_bytes())}",
        fix="run the same command again: finished parts are kept; with --workers 1 it takes the least memory",
    )
