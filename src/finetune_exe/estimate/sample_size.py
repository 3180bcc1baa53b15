"""How many test rows it takes to see that a tuned model is better than its base on the same rows."""

from __future__ import annotations

import math
from statistics import NormalDist

ALPHA = 0.05
"""Share of comparisons without a difference in which one is found, both sides together."""
POWER = 0.8
"""Share of comparisons with the wanted difference in which it is found."""


def rows_for_proportions(base: float, tuned: float, *, correlation: float) -> int:
    """Count the rows on which McNemar's test finds that the share of right answers moved.

    Each row is answered right or wrong by both models. Only rows on which they differ say anything: they are fewer,
    the more the two are alike.

    Args:
        base: Share of right answers of the base model.
        tuned: The share wanted, other than `base`.
        correlation: Correlation of right and wrong between the two on the same row: one that two models can have with
            these shares.

    Source: Connor, Biometrics 43 (1987) 207-211, eq. 2; Miettinen, Biometrics 24 (1968) 339-352.
    """
    both = base * tuned + correlation * math.sqrt(base * (1 - base) * tuned * (1 - tuned))
    assert max(0.0, base + tuned - 1) - 1e-12 <= both <= min(base, tuned) + 1e-12, "no model is right so often"
    differ, moved = base + tuned - 2 * both, abs(tuned - base)
    found = _quantile(1 - ALPHA / 2) * math.sqrt(differ)
    missed = _quantile(POWER) * math.sqrt(max(0.0, differ - moved**2))
    return math.ceil(((found + missed) / moved) ** 2)


def rows_for_means(effect: float, *, correlation: float) -> int:
    """Count the rows on which a paired test finds that the mean of a score moved.

    Args:
        effect: The wanted difference, in standard deviations of the score over rows.
        correlation: Correlation of the two models' scores on the same row, below 1.

    Source: the normal approximation to the paired t test, with 2 (1 - correlation) as variance of the difference.
    """
    deviations = _quantile(1 - ALPHA / 2) + _quantile(POWER)
    return math.ceil(2 * (1 - correlation) * (deviations / effect) ** 2)


def _quantile(share: float) -> float:
    return NormalDist().inv_cdf(share)
