"""Rows that a comparison needs, against simulation."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from finetune_exe.estimate.sample_size import rows_for_means, rows_for_proportions

QUANTILE = NormalDist().inv_cdf(0.975)
shares = st.floats(0.05, 0.95)


@pytest.mark.parametrize(("base", "tuned", "correlation"), [(0.5, 0.6, 0.4), (0.7, 0.8, 0.2), (0.3, 0.45, 0.0)])
def test_mcnemar_finds_the_wanted_rise_four_times_in_five(base: float, tuned: float, correlation: float) -> None:
    rows = rows_for_proportions(base, tuned, correlation=correlation)
    both = base * tuned + correlation * math.sqrt(base * (1 - base) * tuned * (1 - tuned))
    rng, trials = np.random.default_rng(0), 4000
    gained, lost, _ = rng.multinomial(rows, (tuned - both, base - both, 1 - base - tuned + 2 * both), size=trials).T
    found = np.abs(gained - lost) > QUANTILE * np.sqrt(gained + lost)
    assert found.mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("effect", "correlation"), [(0.2, 0.5), (0.3, 0.0)])
def test_a_paired_test_finds_the_wanted_rise_four_times_in_five(effect: float, correlation: float) -> None:
    rows = rows_for_means(effect, correlation=correlation)
    differences = np.random.default_rng(0).normal(effect, math.sqrt(2 * (1 - correlation)), size=(4000, rows))
    spread = differences.std(axis=1, ddof=1) / math.sqrt(rows)
    found = np.abs(differences.mean(axis=1)) > QUANTILE * spread
    assert found.mean() == pytest.approx(0.8, abs=0.03)


@given(base=shares, tuned=shares, less=st.floats(0, 0.5), more=st.floats(0, 0.5))
def test_models_more_alike_need_fewer_rows(base: float, tuned: float, less: float, more: float) -> None:
    assume(abs(base - tuned) > 0.01)
    less, more = sorted((less, more))
    low, high = sorted((base, tuned))
    assume(more <= 0.99 * math.sqrt(low * (1 - high) / (high * (1 - low))))
    alike = rows_for_proportions(base, tuned, correlation=more)
    assert alike <= rows_for_proportions(base, tuned, correlation=less)
    assert rows_for_proportions(tuned, base, correlation=more) == alike
