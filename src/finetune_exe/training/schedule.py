"""The learning rate at each step."""

from __future__ import annotations

import math
from typing import assert_never

from finetune_exe.domain.plan import Schedule, WarmupSteps

USUAL_TIMESCALE = 10_000
"""Steps after which inverse_sqrt has fallen to 0.71 where there is no warm-up to take it from.

Source: transformers.optimization.get_inverse_sqrt_schedule."""


def warmup_steps(schedule: Schedule, num_steps: int) -> int:
    """Count the steps of warm-up; a share of all steps is rounded up."""
    warmup = schedule.warmup
    if isinstance(warmup, WarmupSteps):
        return min(warmup.steps, num_steps)
    return math.ceil(warmup.fraction * num_steps)


def decay_steps(schedule: Schedule, num_steps: int) -> int:
    """Count the last steps, over which wsd falls: at least one, and no step of the warm-up."""
    wanted = math.ceil(schedule.decay_fraction * num_steps)
    return max(1, min(wanted, num_steps - warmup_steps(schedule, num_steps)))


def learning_rate(step: int, schedule: Schedule, *, peak: float, num_steps: int) -> float:
    """Give the learning rate of a step.

    It rises linearly to `peak` over the warm-up, then stays (constant), falls to 0 one step after the last (linear,
    cosine, wsd over its last share of the steps), or falls with the root of the step (inverse_sqrt).

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
        case "wsd":
            return peak * min(1.0, (num_steps - step + 1) / decay_steps(schedule, num_steps))
        case "inverse_sqrt":
            settling = warm or USUAL_TIMESCALE
            return peak / math.sqrt((step - 1 - warm + settling) / settling)
        case kind:
            assert_never(kind)
