"""Exact chances of counts: how often so many of n trials succeed, or of n samples one of k."""

from __future__ import annotations

import math

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


def pass_at_k(num_samples: int, num_passed: int, k: int) -> float:
    """Estimate without bias the chance that one of k samples passes, from n samples of which c passed.

    Source: Chen et al., arXiv 2107.03374 (2021), eq. 1.
    """
    if not 0 <= num_passed <= num_samples or not 1 <= k <= num_samples:
        raise ValueError(f"k must be 1 to {num_samples} and passed samples no more than that")
    return 1 - math.comb(num_samples - num_passed, k) / math.comb(num_samples, k)
