"""Student's t against closed forms, published tables and its own inverse."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.evaluation.student_t import cdf, quantile, survival, two_sided_p

degrees = st.floats(min_value=0.5, max_value=1e5)


@given(t=st.floats(min_value=-1e6, max_value=1e6))
def test_one_degree_is_the_cauchy_distribution(t: float) -> None:
    assert cdf(t, df=1) == pytest.approx(0.5 + math.atan(t) / math.pi, abs=1e-13)


@given(t=st.floats(min_value=-1e6, max_value=1e6))
def test_two_degrees_have_a_closed_form(t: float) -> None:
    assert cdf(t, df=2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), abs=1e-13)


@pytest.mark.parametrize(
    ("df", "p", "value"),
    [
        (1, 0.975, 12.706),
        (5, 0.975, 2.571),
        (10, 0.95, 1.812),
        (30, 0.995, 2.750),
        (49, 0.975, 2.010),
        (120, 0.975, 1.980),
    ],
)
def test_quantiles_are_those_of_the_printed_tables(df: int, p: float, value: float) -> None:
    assert quantile(p, df=df) == pytest.approx(value, abs=5e-4)


def test_many_degrees_approach_the_normal_distribution() -> None:
    assert quantile(0.975, df=1e7) == pytest.approx(1.959963985, abs=1e-6)


@given(p=st.floats(min_value=1e-9, max_value=1 - 1e-9), df=degrees)
def test_quantile_is_the_inverse_of_cdf(p: float, df: float) -> None:
    assert cdf(quantile(p, df=df), df=df) == pytest.approx(p, rel=1e-7)


@given(a=st.floats(-50, 50), b=st.floats(-50, 50), df=degrees)
def test_cdf_rises_and_is_symmetric(a: float, b: float, df: float) -> None:
    low, high = sorted((a, b))
    assert cdf(low, df=df) <= cdf(high, df=df) + 1e-12
    assert cdf(-a, df=df) == pytest.approx(survival(a, df=df), abs=1e-12)


def test_tail_keeps_its_digits() -> None:
    assert survival(1e8, df=2) == pytest.approx(0.5e-16, rel=1e-9)
    assert two_sided_p(math.inf, df=3) == 0.0
    assert two_sided_p(0.0, df=3) == 1.0


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, math.nan])
def test_a_probability_outside_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        quantile(p, df=4)


def test_degrees_must_be_positive() -> None:
    with pytest.raises(ValueError, match="degrees"):
        cdf(1.0, df=0)
