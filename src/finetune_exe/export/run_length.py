"""How many steps a plan takes, for trainers that want to be told in steps."""

from __future__ import annotations

import math
from typing import NamedTuple

from finetune_exe.domain.plan import Plan, WarmupFraction
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.rows import expected_rows


class RunLength(NamedTuple):
    """The length of a run in optimizer steps."""

    num_steps: int
    num_warmup: int
    """Steps of the warm-up."""
    steps_per_epoch: int | None
    """None where the rows were not counted and only schedule.max_steps is known."""
    told: str
    """What it was counted from."""

    @property
    def num_epochs(self) -> int:
        """Passes over the rows, the last one perhaps not whole."""
        return 1 if self.steps_per_epoch is None else max(1, math.ceil(self.num_steps / self.steps_per_epoch))

    def evaluate_every(self, plan: Plan) -> int:
        """Give the steps between two evaluations."""
        epoch = self.steps_per_epoch or math.ceil(self.num_steps / plan.schedule.epochs)
        return max(1, min(self.num_steps, round(epoch / plan.checkpoints.evaluations_per_epoch)))


def run_length(plan: Plan, *, target: str, processes: int) -> RunLength:
    """Count the steps from the rows that the plan's data had when it was made.

    Args:
        plan: Whose length.
        target: The trainer, as the user named it.
        processes: Processes that share the rows of a step.

    Raises:
        FineTuneError: O03 where neither the rows nor schedule.max_steps are known.
    """
    rows, most = _training_rows(plan), plan.schedule.max_steps
    if rows is not None:
        per_epoch = math.ceil(rows / (plan.batch.effective * processes))
        steps, told = max(1, round(per_epoch * plan.schedule.epochs)), f"counted from about {rows:,} training rows"
        steps = steps if most is None else min(steps, most)
    elif most is not None:
        per_epoch, steps, told = None, most, "schedule.max_steps"
    else:
        raise FineTuneError(
            "O03",
            what=f"--to {target} needs the number of steps, and the plan does not know how many rows there are",
            where="schedule.max_steps in the plan",
            why="that trainer is told the length of a run, and of its warm-up, in steps",
            fix="make the plan with --data FILE, or --set schedule.max_steps=N",
        )
    warmup = plan.schedule.warmup
    warm = math.ceil(warmup.fraction * steps) if isinstance(warmup, WarmupFraction) else min(warmup.steps, steps)
    return RunLength(steps, warm, per_epoch, told)


def validation_rows(plan: Plan) -> int | None:
    """Count the rows that choose the checkpoint; None where they were not counted."""
    rows = _all_rows(plan)
    return None if rows is None or plan.data.validation_paths else max(1, round(rows * plan.data.validation_fraction))


def _all_rows(plan: Plan) -> int | None:
    return None if plan.profile is None else expected_rows(plan)


def _training_rows(plan: Plan) -> int | None:
    rows, data = _all_rows(plan), plan.data
    if rows is None:
        return None
    held_out = 0.0 if data.validation_paths else data.validation_fraction
    held_out += 0.0 if data.test_paths else data.test_fraction
    return max(1, round(rows * (1 - held_out)))
