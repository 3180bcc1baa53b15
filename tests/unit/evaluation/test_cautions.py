"""What is said beside a comparison's figures where they could be misread."""

from __future__ import annotations

from typing import Any

import numpy as np

from finetune_exe.domain.comparison import PartComparison
from finetune_exe.domain.evaluation import Comparison
from finetune_exe.evaluation.cautions import cautions_of_parts, chance_note, draws_note, level_note, power_note
from finetune_exe.evaluation.statistics import compare_means, compare_ratios


def drawn(effect: float, *, count: int = 300, seed: int = 5) -> Comparison:
    gains = effect + np.random.default_rng(seed).normal(size=count)
    settings: dict[str, Any] = {"metric": "chrf", "higher_is_better": True, "margin": 0.01}
    return compare_means(np.zeros(count).tolist(), gains.tolist(), range(count), **settings)


def perplexity(hard: Any, gains: Any) -> Comparison:
    ones, settings = np.ones(len(hard)), {"metric": "perplexity", "margin": 0.01}
    before, after = np.asarray(hard), np.asarray(hard) - np.asarray(gains)
    return compare_ratios(before, after, ones, range(len(hard)), transform="perplexity", **settings)  # type: ignore[arg-type]


def test_a_difference_beyond_chance_below_the_smallest_one_found_is_explained() -> None:
    notes = {}
    for seed in range(200):
        found = drawn(0.14, seed=seed)
        assert found.minimum_detectable_difference is not None
        below = abs(found.difference) < found.minimum_detectable_difference
        note = power_note(found)
        assert (note is not None) == (found.verdict == "improved" and below), (found, note)
        notes[found.verdict, below] = note
    assert set(notes) >= {("improved", True), ("improved", False), ("inconclusive", True)}
    assert "four times in five" in (notes["improved", True] or "")


def test_two_ways_of_drawing_that_part_are_explained_and_any_other_test_has_nothing_to_explain() -> None:
    found = drawn(0.3).model_copy(update={"test": "clusters drawn again (2000 times) and exchanged"})
    inside = found.model_copy(update={"ci_low": -0.1, "p_value": 0.04})
    assert "interval and p value part" in (draws_note(inside) or "")
    assert "interval and p value part" in (draws_note(found.model_copy(update={"p_value": 0.06})) or "")
    assert draws_note(found) is None
    assert draws_note(inside.model_copy(update={"p_value": 0.06})) is None
    assert draws_note(inside.model_copy(update={"test": "paired t"})) is None


def test_how_often_chance_speaks_is_said_of_a_mean_of_chrf_and_not_of_one_of_all_answers() -> None:
    mean = drawn(0.3, count=12)
    assert "with 12 clusters" in (chance_note(mean) or "")
    assert chance_note(mean.model_copy(update={"test": "clusters drawn again (2000 times) and exchanged"})) is None


def test_of_parts_it_is_said_where_the_raised_p_value_still_tells() -> None:
    found = next(c for c in (drawn(0.14, seed=seed) for seed in range(200)) if power_note(c))

    def said(verdict: Any) -> list[str]:
        return cautions_of_parts([PartComparison(name="German", comparison=found, p_adjusted=0.2, verdict=verdict)])

    assert [note[:8] for note in said("improved")] == ["German: "]
    assert said("inconclusive") == []


def test_three_clusters_are_beyond_chance_of_nothing() -> None:
    found = drawn(3, count=3)
    assert found.verdict == "inconclusive"
    assert (
        power_note(found.model_copy(update={"ci_low": 1.0, "ci_high": 2.0, "minimum_detectable_difference": 9})) is None
    )


def test_an_interval_in_perplexity_that_holds_zero_under_a_tested_gain_is_explained() -> None:
    hard = np.random.default_rng(0).permutation(np.linspace(0.5, 9, 10))
    found = perplexity(hard, np.linspace(0.4, 0.6, 10))
    assert found.verdict == "improved"
    assert found.ci_high is not None
    assert found.ci_high > 0
    assert "relative difference" in (level_note(found) or "")
    alike = perplexity(np.linspace(2.9, 3.1, 10), np.linspace(0.4, 0.6, 10))
    assert alike.ci_high is not None
    assert alike.ci_high < 0
    assert level_note(alike) is None
    assert level_note(drawn(0.0)) is None
