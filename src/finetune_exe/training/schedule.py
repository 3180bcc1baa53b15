"""The learning rate at each step."""

from __future__ import annotations

import math
from typing import assert_never

from finetune_exe.domain.plan import Schedule, WarmupSteps


def warmup_steps(schedule: Schedule, num_steps: int) -> int:
    """Count the steps of warm-up; a share of all steps is rounded up."""
    warmup = schedule.warmup
    if isinstance(warmup, WarmupSteps):
        return min(warmup.steps, num_steps)
    return math.ceil(warmup.fraction * num_steps)


def learning_rate(step: int, schedule: Schedule, *, peak: float, num_steps: int) -> float:
    """Give the learning rate of a step.

    It rises linearly to `peak` over the warm-up, then stays (constant) or falls to 0 one step after the last
    (linear, cosine).

    Args:
        step: Step number from 1.
        schedule: Its kind and warm-up.
        peak: The highest learning rate.
        num_steps: Steps of the whole run.
    """
    warm = warmup_steps(schedule, num_steps)
    if step <= warm:
        return peak * step / warm
    done = (step - 1 - warm) / max(1, num_steps - warm)
    match schedule.kind:
        case "constant":
            return peak
        case "linear":
            return peak * (1 - done)
        case "cosine":
            return peak * (1 + math.cos(math.pi * done)) / 2
        case kind:
            assert_never(kind)
