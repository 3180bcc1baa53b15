"""Processes on a Ray cluster whose machines see the same folders under the same paths."""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from finetune_exe.cluster import ray_cluster
from finetune_exe.errors import OK, RESUMABLE, FineTuneError
from finetune_exe.models.ranks import HOSTED_VARIABLE, meeting_point
from finetune_exe.workflow.launchers.job import Job

LINES_KEPT = 20
"""Last lines of a process that failed, which are shown."""
_WAIT_SECONDS = 60.0
_OTHERS_SECONDS = 5.0
"""Wait for the others once the process that ended the training has told why."""
ROOM_SECONDS = 3.0
"""Wait for nodes that are about to join."""
_LOOK_SECONDS = 0.25


class Ended(NamedTuple):
    """How one process ended."""

    rank: int
    node: str
    status: int
    words: str
    """The end of what it wrote on stderr."""


class RankProcess:
    """An actor that runs one process of the training where Ray has put it."""

    def meeting_point(self) -> tuple[str, int]:
        """Listen on a free port of this node, as long as this actor lives, and give address and port."""
        import ray

        self._met_at = meeting_point()
        return str(ray.util.get_node_ip_address()), self._met_at.port

    def run(self, command: Sequence[str], environment: Mapping[str, str], index: int) -> tuple[int, str, int, str]:
        """Run the process to its end; plain values go back over the network."""
        import ray

        last: deque[str] = deque(maxlen=LINES_KEPT)
        with subprocess.Popen(
            list(command), env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, errors="replace",
        ) as process:  # fmt: skip
            assert process.stderr is not None
            last.extend(process.stderr)
        return index, str(ray.util.get_node_ip_address()), process.returncode, "".join(last)


class RayCluster:
    """Runs one actor for each process, wherever the cluster has room."""

    def script(self, job: Job) -> str:
        """Write the command; the cluster is the one that $RAY_ADDRESS names."""
        options = ("--launch", "ray", "--processes", str(job.processes))
        return job.line("fine-tune") + " " + " ".join(options) + "\n"

    def launch(self, job: Job, note: Callable[[str], object]) -> int:
        """Run the processes until all have ended; where one ends badly the others are ended too.

        Raises:
            FineTuneError: X01 where Ray is not installed, T21 where a node or a process is gone, T23 where the cluster
                has too little room.
        """
        with ray_cluster(needed_for="training on a cluster") as ray:
            self._check_room(ray, job)
            wants = {"num_gpus": 1} if job.uses_gpus else {"num_cpus": 1}
            actor: Any = ray.remote(**wants)(RankProcess)
            actors = [actor.remote() for _ in range(job.processes)]
            try:
                address, port = ray.get(actors[0].meeting_point.remote())
                note(f"{job.processes} processes meet at {address}:{port}")
                running = [
                    actors[index].run.remote(job.command, _environment(index, job.processes, address, port), index)
                    for index in range(job.processes)
                ]
                return self._watch(ray, running, note)
            finally:
                for each in actors:
                    ray.kill(each)

    def _check_room(self, ray: Any, job: Job) -> None:
        kind = "GPU" if job.uses_gpus else "CPU"
        until = time.monotonic() + ROOM_SECONDS
        while (there := int(ray.cluster_resources().get(kind, 0))) < job.processes and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
        if there < job.processes:
            raise FineTuneError(
                "T23",
                what=f"{job.processes} processes want a {kind} each, and the cluster has {there}",
                where="the Ray cluster",
                why="they must all run at once, or they wait for each other for ever",
                fix=f"--processes {max(1, there)}, or add nodes to the cluster",
            )

    def _watch(self, ray: Any, running: Sequence[Any], note: Callable[[str], object]) -> int:
        """Wait for all processes; one that merely lost the others may end before the one that is the cause."""
        waiting, bad = list(running), list[Ended]()
        while waiting:
            told = any(process.status != RESUMABLE for process in bad)
            ready, waiting = ray.wait(waiting, num_returns=1, timeout=_OTHERS_SECONDS if told else _WAIT_SECONDS)
            if not ready and bad:
                break
            for reference in ready:
                try:
                    ended = Ended(*ray.get(reference))
                except ray.exceptions.RayActorError as fault:
                    raise _gone(running.index(reference), str(fault)) from fault
                if ended.status != OK:
                    bad.append(ended)
        if not bad:
            return OK
        killed = [process for process in bad if process.status < 0]
        first = next(iter(killed), None) or next((p for p in bad if p.status != RESUMABLE), bad[0])
        if killed:
            raise _gone(first.rank, f"signal {-first.status} on {first.node}. {first.words[-200:]}")
        note(f"process {first.rank} on node {first.node} ended with status {first.status}")
        for line in first.words.splitlines():
            note(line)
        return first.status


def _environment(index: int, count: int, address: str, port: int) -> dict[str, str]:
    return {
        "RANK": str(index), "WORLD_SIZE": str(count), "LOCAL_RANK": "0", "MASTER_ADDR": address,
        "MASTER_PORT": str(port), HOSTED_VARIABLE: "True",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }  # fmt: skip


def _gone(index: int, why: str) -> FineTuneError:
    return FineTuneError(
        "T21",
        what=f"process {index} of the training is gone",
        where="the Ray cluster",
        why=" ".join(why.split())[:300],
        fix="see that its node is well; then start the training again",
    )
