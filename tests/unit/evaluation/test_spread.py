"""Error rates of the three ways to test clustered differences, by simulation, and what they rest on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_exe.evaluation import spread
from finetune_exe.evaluation.spread import choose_kind, measure_spread, number_clusters, standard_error

DESIGNS = {
    "three alike": [10] * 3,
    "five unlike": [60, 20, 10, 5, 5],
    "one of six huge": [100, 3, 3, 3, 3, 3],
    "eight alike": [14, 9, 12, 10, 8, 11, 10, 6],
    "nine and a huge one": [250] + [27] * 9,
    "doubling": [2**i for i in range(10)],
    "power law": [max(1, 300 // (i + 1)) for i in range(60)],
    "three large among single items": [50] * 3 + [1] * 27,
    "fifty alike": [10] * 50,
}


def rejected(sizes: list[int], *, shared: float, kind: str, repeats: int = 600) -> float:
    """Share of runs without a difference in which one is found."""
    rng = np.random.default_rng(sum(sizes))
    index = np.repeat(np.arange(len(sizes)), sizes)
    clusters = number_clusters(index.tolist())
    hits = 0
    for _ in range(repeats):
        latent = rng.normal(0, math.sqrt(shared), len(sizes))[index] + rng.normal(0, math.sqrt(1 - shared), len(index))
        values = latent if kind == "scores" else (latent > 0.9) * 1.0 - (latent < -0.9)
        found = measure_spread(values, np.ones(len(index)), clusters, confidence_level=0.95, scale=1)
        hits += found.p_value is not None and found.p_value < 0.05
    return hits / repeats


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("design", DESIGNS)
def test_false_alarms_stay_near_the_level_at_any_clustering(
    design: str, shared: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """About 5 %, give or take three standard errors of the simulation; unlike clusters of few may stay below."""
    monkeypatch.setattr(spread, "NUM_FLIPS", 499)
    few = len(DESIGNS[design]) < spread.FEWEST_TO_FLIP and design != "three alike"
    rate = rejected(DESIGNS[design], shared=shared, kind="scores")
    assert (0.005 if few else 0.025) <= rate <= 0.079


@pytest.mark.parametrize("design", ["eight alike", "nine and a huge one", "power law", "fifty alike"])
def test_false_alarms_of_right_and_wrong_answers_stay_below_the_level(
    design: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "NUM_FLIPS", 499)
    for shared in (0.0, 0.5):
        assert 0.01 <= rejected(DESIGNS[design], shared=shared, kind="right or wrong") <= 0.079


def test_a_huge_cluster_would_fool_the_usual_correction() -> None:
    """What the flipped signs are for: the textbook correction finds differences four times too often here."""
    sizes, rng = [250] + [27] * 9, np.random.default_rng(3)
    hits, count, total = 0, len(sizes), sum(sizes)
    for _ in range(600):
        sums = np.array([size * rng.normal(0, math.sqrt(0.5)) + rng.normal(0, math.sqrt(size / 2)) for size in sizes])
        deviations = sums - np.array(sizes) * sums.sum() / total
        error = math.sqrt(count / (count - 1) * float(np.sum(deviations**2)))
        hits += abs(sums.sum()) / error > 2.262
    assert hits / 600 > 0.12


def test_the_interval_of_flipped_signs_covers_as_often_as_it_says() -> None:
    sizes, rng = [max(1, 200 // (i + 1)) for i in range(12)], np.random.default_rng(6)
    index = np.repeat(np.arange(len(sizes)), sizes)
    clusters, covered, agree = number_clusters(index.tolist()), 0, 0
    for _ in range(400):
        values = 0.3 + rng.normal(0, 0.7, len(sizes))[index] + rng.normal(0, 0.7, len(index))
        found = measure_spread(values, np.ones(len(index)), clusters, confidence_level=0.95, scale=1)
        assert found.kind == "sign flips"
        assert found.low is not None
        assert found.high is not None
        assert found.p_value is not None
        covered += found.low <= 0.3 <= found.high
        agree += (found.p_value < 0.05) == (not found.low <= 0 <= found.high)
    assert 0.92 <= covered / 400 <= 0.98
    assert agree >= 396


def test_flipped_signs_of_single_right_and_wrong_answers_are_the_binomial_test() -> None:
    """Nine won, two lost: the mid p value of the binomial distribution."""
    differences = np.array([1.0] * 9 + [-1.0] * 2 + [0.0] * 60)
    found = measure_spread(differences, np.ones(71), number_clusters(list(range(71))), confidence_level=0.95, scale=1)
    beyond = 2 * sum(math.comb(11, k) for k in (0, 1)) / 2**11
    assert found.kind == "sign flips"
    assert found.p_value == pytest.approx(beyond + math.comb(11, 2) / 2**11, abs=0.01)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=20), st.floats(0.5, 20))
def test_with_equal_weights_the_error_is_that_of_the_mean(sums: list[float], weight: float) -> None:
    values = np.array(sums)
    error = standard_error(values * weight, np.full(len(sums), weight))
    assert error == pytest.approx(float(np.std(values, ddof=1)) / math.sqrt(len(sums)), abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=30))
def test_the_choice_does_not_depend_on_who_is_ahead(sizes: list[int]) -> None:
    weights = np.array(sizes, dtype=np.float64)
    sums = np.random.default_rng(1).normal(size=len(sizes))
    assert choose_kind(sums, weights) == choose_kind(-sums, weights) == choose_kind(np.abs(sums), weights)
