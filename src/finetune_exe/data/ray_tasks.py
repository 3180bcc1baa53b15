"""Encode shards as tasks of a Ray cluster whose machines see the same folders under the same paths."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from finetune_exe.cluster import ray_cluster
from finetune_exe.data.shards import ShardJob, encode_shard
from finetune_exe.errors import FineTuneError
from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer

RETRIES = 3
"""Workers that may die over one shard."""


def encode_on_ray(jobs: Sequence[ShardJob], *, num_workers: int | None, told: Callable[[ShardJob], object]) -> None:
    """Encode shards on the cluster that is connected, or else on one started on this machine.

    A worker that dies has its shard encoded by another. What comes back over the network is a name; rows and arrays
    go through the shared folders.

    Args:
        jobs: The shards.
        num_workers: Shards at once; None leaves it to Ray, which runs one on each core.
        told: Called for each finished shard.

    Raises:
        FineTuneError: X01 where Ray is not installed, D31 where workers keep dying, what a worker was refused.
    """
    with ray_cluster(needed_for="preparing on a cluster") as ray:
        task: Any = ray.remote(num_cpus=1, max_retries=RETRIES)(_encode_there)
        waiting = list(reversed(jobs))
        running: dict[Any, ShardJob] = {}
        at_once = num_workers or max(1, 2 * int(ray.cluster_resources().get("CPU", 1)))
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop()
                running[task.remote(job.to_json())] = job
            ready, _ = ray.wait(list(running), num_returns=1)
            job = running.pop(ready[0])
            _check(ready[0], job)
            told(job)


def _check(reference: Any, job: ShardJob) -> None:
    """Fetch what a task came to; a fault the user can mend is raised here as it was there."""
    import ray

    try:
        fault = ray.get(reference)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError) as died:
        raise FineTuneError(
            "D31",
            what=f"{RETRIES + 1} workers ended before their work was done",
            where=f"rows of {job.rows}",
            why=" ".join(str(died).split())[:300],
            fix="run the same command again: finished parts are kept",
        ) from died
    if isinstance(fault, FineTuneError):
        raise fault


def _encode_there(text: str) -> FineTuneError | None:
    job = ShardJob.from_json(text)
    try:
        encode_shard(job, _tokenizer(job.model, job.chat_template))
    except FineTuneError as fault:
        return fault
    return None


@lru_cache(maxsize=4)
def _tokenizer(model: str, chat_template: str | None) -> ChatTokenizer:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return load_tokenizer(Path(model), chat_template=chat_template)
