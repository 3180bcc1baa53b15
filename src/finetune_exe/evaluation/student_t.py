"""Student's t distribution: what a few observations allow to be said about a mean."""

from __future__ import annotations

import math
from functools import lru_cache

_TINY = 1e-300
_MAX_TERMS = 20_000


def cdf(t: float, *, df: float) -> float:
    """Give the probability that a t-distributed value with `df` degrees of freedom is at most `t`.

    Args:
        t: Any real number; infinities are allowed.
        df: Degrees of freedom, above 0; need not be whole.

    Source: Abramowitz and Stegun (1964), 26.7.1, by the regularised incomplete beta function.
    """
    return 1.0 - survival(t, df=df) if t > 0 else survival(-t, df=df)


def survival(t: float, *, df: float) -> float:
    """Give the probability of a value above `t`; accurate far out in the tail, where 1 - cdf would round to 0."""
    if not df > 0:
        raise ValueError(f"degrees of freedom must be above 0, not {df}")
    if t < 0:
        return 1.0 - survival(-t, df=df)
    square = t * t
    if math.isinf(square):
        return 0.0
    return 0.5 * incomplete_beta(df / (df + square), square / (df + square), df / 2, 0.5)


def two_sided_p(t: float, *, df: float) -> float:
    """Give the probability of a value at least as far from zero as `t`, on either side."""
    return min(1.0, 2.0 * survival(abs(t), df=df))


@lru_cache(maxsize=256)
def quantile(p: float, *, df: float) -> float:
    """Give the value that a t-distributed one stays below with probability `p`, 0 < p < 1; the inverse of `cdf`."""
    if not 0 < p < 1:
        raise ValueError(f"a probability strictly between 0 and 1 is needed, not {p}")
    if p < 0.5:
        return -_upper_quantile(p, df=df)
    return _upper_quantile(1.0 - p, df=df)


def _upper_quantile(tail: float, *, df: float) -> float:
    """Find t >= 0 whose survival is `tail` (at most one half) by doubling and halving."""
    low, high = 0.0, 1.0
    while survival(high, df=df) > tail:
        low, high = high, 2.0 * high
    while True:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            return middle
        if survival(middle, df=df) > tail:
            low = middle
        else:
            high = middle


def incomplete_beta(x: float, complement: float, a: float, b: float) -> float:
    """Evaluate I_x(a, b), the regularised incomplete beta function, for x + complement = 1.

    Both are given so that neither loses digits. A binomial variable of n trials with probability x is at least k with
    probability I_x(k, n - k + 1).
    """
    if x <= 0 or complement <= 0:
        return 0.0 if x <= 0 else 1.0
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(complement)
    if x < (a + 1) / (a + b + 2):
        return math.exp(log_front) * _continued_fraction(x, a, b) / a
    return 1.0 - math.exp(log_front) * _continued_fraction(complement, b, a) / b


def _continued_fraction(x: float, a: float, b: float) -> float:
    """Sum the continued fraction of the incomplete beta function by the modified Lentz method.

    Source: Abramowitz and Stegun (1964), 26.5.8; Thompson and Barnett, J. Comput. Phys. 64 (1986).
    """
    numerator, denominator = 1.0, _away_from_zero(1.0 - (a + b) * x / (a + 1))
    denominator = 1.0 / denominator
    value = denominator
    for m in range(1, _MAX_TERMS):
        for coefficient in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            denominator = 1.0 / _away_from_zero(1.0 + coefficient * denominator)
            numerator = _away_from_zero(1.0 + coefficient / numerator)
            step = denominator * numerator
            value *= step
        if abs(step - 1.0) < 1e-15:
            return value
    raise ArithmeticError(f"the incomplete beta function did not converge for {x}, {a}, {b}")


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
