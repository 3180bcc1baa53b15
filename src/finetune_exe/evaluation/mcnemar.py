"""Right and wrong answers of two models on the same items, each item standing alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

from finetune_exe.evaluation.binomial import at_least, at_most


def exact_p(wins: int, losses: int) -> float:
    """Test whether wins and losses are equally likely, by the binomial distribution of the items that differ.

    Args:
        wins: Items that only the second model has right.
        losses: Items that only the first has right.

    Source: McNemar, Psychometrika 12 (1947); exact form as in Conover, Practical Nonparametric Statistics, 3.5.
    """
    return min(1.0, 2.0 * at_least(max(wins, losses), wins + losses))


def interval(wins: int, losses: int, n: int, *, confidence_level: float) -> tuple[float, float]:
    """Give an interval of the difference of two paired shares, second less first: the wider of two, on either side.

    That of the score test has a width when no item differs, but of few items it misses a difference near one end up to
    twice as often as it may; that of the exact test never says more than its p value does.
    """
    ends = (
        score_interval(wins, losses, n, confidence_level=confidence_level),
        exact_interval(wins, losses, n, confidence_level=confidence_level),
    )
    return min(low for low, _ in ends), max(high for _, high in ends)


def exact_interval(wins: int, losses: int, n: int, *, confidence_level: float) -> tuple[float, float]:
    """Give the interval that the exact test does not refuse, of the items that differ, taken as many as they are.

    Source: Clopper and Pearson, Biometrika 26 (1934) 404-413.
    """
    differing, tail = wins + losses, (1 - confidence_level) / 2
    shares = (
        _crossing(lambda share: at_most(wins - 1, differing, rate=share), 1 - tail, 0.0, 1.0) if wins else 0.0,
        _crossing(lambda share: at_most(wins, differing, rate=share), tail, 0.0, 1.0) if losses else 1.0,
    )
    low, high = ((2 * share - 1) * differing / n for share in shares)
    return low, high


def score_interval(wins: int, losses: int, n: int, *, confidence_level: float) -> tuple[float, float]:
    """Give the interval of the difference of two paired shares, second less first, that the score test does not refuse.

    Unlike an interval from the standard error it has a width when no item differs.

    Source: Tango, Statistics in Medicine 17 (1998) 891-908.
    """
    critical = NormalDist().inv_cdf(0.5 + confidence_level / 2)

    def score(difference: float) -> float:
        b = -wins - losses + (2 * n - wins + losses) * difference
        c = -losses * difference * (1 - difference)
        lost = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        variance = n * (2 * lost + difference * (1 - difference))
        distance = wins - losses - n * difference
        return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)

    middle = (wins - losses) / n
    return _crossing(score, critical, -1.0, middle), _crossing(score, -critical, middle, 1.0)


def _crossing(score: Callable[[float], float], level: float, low: float, high: float) -> float:
    """Find where a falling function passes a level."""
    for _ in range(60):
        between = (low + high) / 2
        if score(between) > level:
            low = between
        else:
            high = between
    return (low + high) / 2


def least_detectable(n: int, *, alpha: float, power: float) -> float | None:
    """Give the share of items that, all won, would be found with the wanted power though no other item differs.

    None where there are too few items to find anything.
    """
    needed = next((wins for wins in range(1, 64) if exact_p(wins, 0) < alpha), 64)
    if needed > n:
        return None
    low, high = 0.0, 1.0
    for _ in range(50):
        share = (low + high) / 2
        if at_least(needed, n, rate=share) < power:
            low = share
        else:
            high = share
    return high
