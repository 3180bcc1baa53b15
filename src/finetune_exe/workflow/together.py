"""Train as one of several processes: the first prepares and writes, the others learn along."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune_exe.domain.dataset import PreparedDataset
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.errors import FineTuneError
from finetune_exe.workflow.run_folder import RunFolder
from finetune_exe.workflow.runs import train_plan


def is_one_of_several() -> bool:
    """Say whether the environment makes this process one of several, without loading PyTorch.

    What is no number counts as several, for then it is said what is wrong with it where processes meet.
    """
    count = os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_STEP_NUM_TASKS") or "1"
    return not count.isdecimal() or int(count) > 1


def train_together(
    plan: Plan, path: Path, *, prepared: Callable[[PreparedDataset], None] = lambda _: None, **options: Any
) -> TrainingRun | None:
    """Train in this process, alone or as one of those that the environment names.

    Args:
        plan: What to do.
        path: The run's folder, which all processes see.
        prepared: Shown the dataset before training begins, in the first process.
        options: Those of `train_plan`.

    Returns:
        The summary; None in all processes but the first.

    Raises:
        FineTuneError: T21 where another process is gone; whatever `train_plan` raises.
    """
    if not is_one_of_several():
        return train_plan(plan, path, prepared=prepared, **options)
    from finetune_exe.models.load import require_training_packages, settle_libraries
    from finetune_exe.models.ranks import joined_ranks

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a connection that breaks is told once, by us
    require_training_packages()
    settle_libraries()
    with joined_ranks() as ranks:
        if not ranks.is_first:
            if ranks.wait_for_first():
                _learn_along(plan, path, resume=bool(options.get("resume")), max_seconds=options.get("max_seconds"))
            return None
        announced: list[PreparedDataset] = []

        def there(manifest: PreparedDataset) -> None:
            prepared(manifest)
            announced.append(manifest)
            ranks.announce(True)

        try:
            return train_plan(plan, path, prepared=there, **options)
        finally:
            if not announced:
                ranks.announce(False)


def _learn_along(plan: Plan, path: Path, *, resume: bool, max_seconds: float | None) -> None:
    """Compute this process's share of every step; what happened is told by the first process alone."""
    from finetune_exe.models.locate import model_folder
    from finetune_exe.prepared.store import load_dataset
    from finetune_exe.training.loop import train
    from finetune_exe.training.resume import find_resumption
    from finetune_exe.workflow.signals import stop_on_signals

    base = model_folder(plan.model.reference, revision=plan.model.revision)
    data = load_dataset(RunFolder(path).dataset, verify=False)
    resumption = find_resumption(path) if resume else None
    try:
        with stop_on_signals(lambda _: None) as asked_to_stop:
            train(plan, data, base=base, run=path, emit=lambda _: None, max_seconds=max_seconds, resumption=resumption,
                  asked_to_stop=asked_to_stop)  # fmt: skip
    except FineTuneError as fault:
        if fault.code != "T11":  # all of them stop together, and the first says so
            raise


def spread_settings(plan: Plan, num_processes: int) -> tuple[str, ...]:
    """Give the settings that share the rows of a step out to so many processes, as `path=value`.

    Rows of a step stay as many as they were. Each process takes as many in a pass as it can, up to those of the plan.

    Raises:
        FineTuneError: T02 where the rows cannot be shared out evenly.
    """
    if num_processes == plan.parallelism.num_gpus:
        return ()
    rows = plan.batch_of_step.effective
    if rows % num_processes:
        raise FineTuneError(
            "T02",
            what=f"{rows} rows of a step cannot be shared out evenly to {num_processes} processes",
            where="--processes; batch.micro_batch_size x batch.gradient_accumulation_steps x parallelism.num_gpus",
            why="each process learns from as many rows of a step as any other",
            fix=f"--processes {math.gcd(rows, num_processes)}; or say how many rows each takes: --set parallelism.kind="
            f"ddp --set parallelism.num_gpus={num_processes} --set batch.gradient_accumulation_steps=...",
        )
    each = rows // num_processes
    at_once = max(size for size in range(1, plan.batch.micro_batch_size + 1) if each % size == 0)
    kind = "none" if num_processes == 1 else plan.parallelism.kind if plan.parallelism.kind != "none" else "ddp"
    return (
        f"parallelism.kind={kind}", f"parallelism.num_gpus={num_processes}", f"batch.micro_batch_size={at_once}",
        f"batch.gradient_accumulation_steps={each // at_once}",
    )  # fmt: skip
