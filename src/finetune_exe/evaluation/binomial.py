"""Exact chances of counts: how often so many of n trials succeed."""

from __future__ import annotations

from finetune_exe.evaluation.student_t import incomplete_beta


def at_least(successes: int, trials: int, *, rate: float = 0.5) -> float:
    """Give the probability of so many successes or more, each trial succeeding at a rate from 0 to 1.

    Source: Abramowitz and Stegun (1964), 26.5.24, by the regularised incomplete beta function.
    """
    if successes <= 0 or successes > trials:
        return float(successes <= 0)
    return incomplete_beta(rate, 1 - rate, successes, trials - successes + 1)


def at_most(successes: int, trials: int, *, rate: float = 0.5) -> float:
    """Give the probability of so many successes or fewer."""
    return at_least(trials - successes, trials, rate=1 - rate)
