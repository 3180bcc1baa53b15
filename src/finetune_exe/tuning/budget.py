"""How many trials of which length fit the time, by the plan's own estimate, before anything runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.values import Interval
from finetune_exe.errors import FineTuneError
from finetune_exe.units import format_duration

EXTRA_RUNS = 2
"""Beside the trials: the plan with a second seed, and the best trial with that seed."""
LEAST_TRIALS = 4
LEAST_SHARE = 0.1
"""Shorter runs say too little about the whole one."""
_ROUNDING = 1e-9
"""Of a study that fits to the second, what its last run may seem to lack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The size of a study."""

    num_trials: int
    share: float
    """Part of the plan's steps in each trial."""
    seconds: Interval | None
    """Time of the whole study, unpruned; None where the plan could not estimate its own."""
    words: str
    """All of it in a sentence, with what was cut and why."""


def bound_budget(plan: Plan, *, num_trials: int, seconds: float | None, share: float | None) -> Budget:
    """Shorten the trials, then drop some, until the study fits the time.

    Args:
        plan: Its estimate of the duration decides.
        num_trials: Different settings wished for, the plan's own among them.
        seconds: Time for the whole study; None sets no limit.
        share: Part of the plan's steps wished for; None takes all, or what fits.

    Raises:
        FineTuneError: C14 where not even the least study fits.
    """
    duration = plan.estimates.get("duration")
    if duration is None:
        words = f"{num_trials + EXTRA_RUNS} runs; how long each takes is not known"
        words += ", the clock ends the study" if seconds is not None else ""
        return Budget(num_trials=num_trials, share=share or 1.0, seconds=None, words=words)
    fixed = duration.parts.get("loading", 0.0) + duration.parts.get("offsetting", 0.0)
    working = max(1e-9, duration.value.mid - fixed - duration.parts.get("rehearsal", 0.0))
    runs = num_trials + EXTRA_RUNS
    if share is None:
        fits = 1.0 if seconds is None else (seconds / runs - fixed) / working
        share = 1.0 if fits >= 1 else max(LEAST_SHARE, math.floor(100 * fits) / 100)
    each = fixed + share * working
    possible = num_trials if seconds is None else min(num_trials, int(seconds / each + _ROUNDING) - EXTRA_RUNS)
    least = min(num_trials, LEAST_TRIALS)
    if possible < least:
        raise _too_short(seconds or 0.0, each, least, share)
    runs = possible + EXTRA_RUNS
    ratio = each / duration.value.mid
    whole = Interval(low=runs * ratio * duration.value.low, mid=runs * each, high=runs * ratio * duration.value.high)
    words = f"{runs} runs of about {format_duration(each)}, together {format_duration(whole.mid)}"
    words += f" ({format_duration(whole.low)} to {format_duration(whole.high)}); pruning makes it less"
    if share < 1:
        words += f"; each makes {100 * share:.0f} % of the plan's steps"
    if possible < num_trials:
        words += f"; {num_trials - possible} of the {num_trials} trials wished for do not fit the time"
    return Budget(num_trials=possible, share=share, seconds=whole, words=words)


def _too_short(seconds: float, each: float, trials: int, share: float) -> FineTuneError:
    needed = (trials + EXTRA_RUNS) * each
    return FineTuneError(
        "C14",
        what=f"{format_duration(seconds)} are too short for {trials + EXTRA_RUNS} runs of {format_duration(each)}",
        where="--minutes",
        why=f"{trials} settings are the least that make a search, and two runs more measure the noise, "
        f"each with {100 * share:.0f} % of the plan's steps",
        fix=f"--minutes {math.ceil(needed / 60)}, or a plan of fewer rows (--set data.max_rows=...)",
    )
