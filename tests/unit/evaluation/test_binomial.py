"""Chances of counts, against sums and closed forms."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.evaluation.binomial import at_least, at_most, pass_at_k


@given(st.integers(0, 60), st.integers(-2, 62), st.integers(0, 20))
def test_tails_are_the_sums_of_their_terms(trials: int, successes: int, twentieths: int) -> None:
    rate = Fraction(twentieths, 20)
    tail = sum(
        math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(max(0, successes), trials + 1)
    )
    assert at_least(successes, trials, rate=float(rate)) == pytest.approx(float(tail), abs=1e-12)
    assert at_most(successes - 1, trials, rate=float(rate)) == pytest.approx(float(1 - tail), abs=1e-12)


@pytest.mark.parametrize("trials", [1_000, 1_030, 20_000])
def test_tails_of_many_trials(trials: int) -> None:
    assert at_most(trials - 1, trials, rate=0.999) == pytest.approx(1 - 0.999**trials)
    assert at_least(1, trials, rate=0.001) == pytest.approx(1 - 0.999**trials)
    assert at_most(trials // 2, trials) == pytest.approx(0.5, abs=0.4 / math.sqrt(trials) * 1.01)


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"), [(10, 3, 1, 0.3), (5, 5, 2, 1), (5, 0, 3, 0), (4, 2, 2, 1 - 1 / 6)]
)
def test_pass_at_k_against_closed_forms(n: int, c: int, k: int, expected: float) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(expected)
