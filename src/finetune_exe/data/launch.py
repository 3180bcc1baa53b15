"""Have shards encoded: here, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from finetune_exe.data.checks.survey import available_workers
from finetune_exe.data.shards import ShardJob
from finetune_exe.data.workers import encode_here, encode_in_processes
from finetune_exe.prepared.shards import read_summary
from finetune_exe.text.tokenizer import ChatTokenizer

Launch = Literal["local", "ray"]
FEW_SHARDS = 2
"""So few shards are encoded in this process: starting others would take longer."""


def run_jobs(
    jobs: Sequence[ShardJob],
    tokenizer: ChatTokenizer,
    *,
    launch: Launch,
    num_workers: int | None,
    told: Callable[[int], object],
) -> None:
    """Encode the shards that are not there yet.

    Args:
        jobs: All shards.
        tokenizer: The one they are encoded with.
        launch: Where.
        num_workers: Processes at once; None takes one for each core.
        told: Receives the number of rows of each shard as it is done.

    Raises:
        FineTuneError: D31 where workers die, X01 where Ray is missing.
    """
    open_jobs = []
    for job in jobs:
        if read_summary(job.target) is None:
            open_jobs.append(job)
        else:
            told(job.num_drawn)

    def finished(job: ShardJob) -> None:
        told(job.num_drawn)

    if launch == "ray":
        from finetune_exe.data.ray_tasks import encode_on_ray

        encode_on_ray(open_jobs, num_workers=num_workers, told=finished)
        return
    few = num_workers is None and len(open_jobs) <= FEW_SHARDS
    workers = 1 if few else num_workers or available_workers()
    if workers == 1:
        encode_here(open_jobs, tokenizer, told=finished)
    else:
        encode_in_processes(open_jobs, num_workers=workers, told=finished)
