"""Paired clustered comparisons: error rates by simulation, closed forms, a bootstrap, and published standard errors."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as without_deadline
from hypothesis import strategies as st

from finetune_exe.domain.evaluation import Comparison, Evaluation
from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation import signs, student_t
from finetune_exe.evaluation.spread import p_value_of_few
from finetune_exe.evaluation.statistics import compare_means, compare_ratios

PAIRED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "paired"
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "evaluation.json"
CLUSTERS, SIZE = 50, 10
CLUSTER_OF = np.repeat(np.arange(CLUSTERS), SIZE).tolist()


def means(baseline: Any, candidate: Any, clusters: Any = None, **options: Any) -> Comparison:
    settings: dict[str, Any] = {"metric": "score", "higher_is_better": True, "margin": 0.0} | options
    return compare_means(baseline, candidate, range(len(baseline)) if clusters is None else clusters, **settings)


def perplexities(baseline: Any, candidate: Any, weights: Any, clusters: Any, **options: Any) -> Comparison:
    settings: dict[str, Any] = {"metric": "perplexity", "transform": "perplexity", "margin": 0.0} | options
    return compare_ratios(baseline, candidate, weights, clusters, **settings)


def simulate(rng: np.random.Generator, *, icc: float, effect: float) -> np.ndarray:
    """Draw the differences of 500 items in 50 clusters, of variance 1."""
    shared = np.repeat(rng.normal(0, math.sqrt(icc), CLUSTERS), SIZE)
    return effect + shared + rng.normal(0, math.sqrt(1 - icc), CLUSTERS * SIZE)


def p_of(gains: np.ndarray, index: np.ndarray) -> float:
    """Give the p value alone: an interval takes some thirty of them."""
    return p_value_of_few(gains, np.ones(len(gains)), index, np.ones(int(index.max()) + 1))(0.0)


@pytest.fixture
def _fewer_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs, "NUM_FLIPS", 299)


@pytest.mark.usefixtures("_fewer_signs")
@pytest.mark.parametrize("icc", [0.0, 0.5, 0.9])
def test_false_alarms_stay_at_the_level_whatever_the_clusters_share(icc: float) -> None:
    rng, index = np.random.default_rng(11), np.repeat(np.arange(CLUSTERS), SIZE)
    assert 0.035 <= np.mean([p_of(simulate(rng, icc=icc, effect=0), index) < 0.05 for _ in range(4000)]) <= 0.065


@pytest.mark.usefixtures("_fewer_signs")
@pytest.mark.parametrize("icc", [0.0, 0.5])
def test_the_minimum_detectable_difference_is_found_four_times_in_five(icc: float) -> None:
    rng, index = np.random.default_rng(12), np.repeat(np.arange(CLUSTERS), SIZE)
    error = math.sqrt((icc + (1 - icc) / SIZE) / CLUSTERS)
    df = CLUSTERS - 1
    true_effect = (student_t.quantile(0.975, df=df) + student_t.quantile(0.8, df=df)) * error
    drawn = [simulate(rng, icc=icc, effect=true_effect) for _ in range(1500)]
    found = [float(np.sum(gains)) > 0 and p_of(gains, index) < 0.05 for gains in drawn]
    assert np.mean(found) == pytest.approx(0.8, abs=0.035)
    results = [means(np.zeros(CLUSTERS * SIZE), gains, CLUSTER_OF) for gains in drawn[:300]]
    assert np.median([r.minimum_detectable_difference or 0 for r in results]) == pytest.approx(true_effect, rel=0.05)


@pytest.mark.usefixtures("_fewer_signs")
@pytest.mark.parametrize("icc", [0.0, 0.9])
def test_a_verdict_is_what_the_p_value_says(icc: float) -> None:
    rng, index = np.random.default_rng(13), np.repeat(np.arange(CLUSTERS), SIZE)
    for effect in (0.0, 0.2) * 75:
        gains = simulate(rng, icc=icc, effect=effect)
        result = means(np.zeros(CLUSTERS * SIZE), gains, CLUSTER_OF)
        assert result.p_value == p_of(gains, index)
        assert (result.verdict in ("improved", "regressed")) == (result.p_value < 0.05)


@without_deadline(deadline=None)
@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=2, max_size=13), st.booleans())
def test_items_that_are_their_own_cluster_have_the_textbook_error(pairs: list[tuple[float, float]], many: bool) -> None:
    """Many of them are judged by the textbook's paired t."""
    baseline, candidate = (np.array(scores * (100 if many else 1)) for scores in map(list, zip(*pairs, strict=True)))
    differences = candidate - baseline
    result = means(baseline, candidate)
    if np.ptp(differences) < 1e-6 or (many and np.mean(differences != 0) < 0.7):
        return
    error = differences.std(ddof=1) / math.sqrt(len(differences))
    assert result.standard_error == pytest.approx(error)
    if many:
        df = len(differences) - 1
        assert result.p_value == pytest.approx(student_t.two_sided_p(differences.mean() / error, df=df))
    if result.ci_low is not None:
        assert result.ci_high is not None
        assert result.ci_low <= result.difference <= result.ci_high


@given(st.permutations(range(12)), st.floats(0.1, 10), st.floats(-5, 5))
def test_order_scale_and_shift_do_not_matter(order: list[int], scale: float, shift: float) -> None:
    rng = np.random.default_rng(5)
    baseline, candidate, clusters = (
        rng.normal(size=12),
        rng.normal(size=12),
        np.array([0, 0, 1, 1, 1, 2, 3, 3, 4, 4, 4, 4]),
    )
    one = means(baseline, candidate, clusters.tolist())
    other = means(baseline[order] * scale + shift, candidate[order] * scale + shift, clusters[order].tolist())
    assert other.p_value == pytest.approx(one.p_value, rel=1e-6)
    assert other.standard_error == pytest.approx(scale * (one.standard_error or 0), rel=1e-6)


@pytest.mark.parametrize(
    ("shift", "margin", "higher", "verdict"),
    [
        (0.5, 0.1, True, "improved"),
        (0.5, 0.1, False, "regressed"),
        (-0.5, 0.1, True, "regressed"),
        (-0.5, 0.6, True, "non_inferior"),
        (-0.5, 0.5, True, "inconclusive"),
        (0.0, 0.1, True, "non_inferior"),
        (0.0, 0.001, True, "inconclusive"),
    ],
)
def test_four_verdicts(shift: float, margin: float, higher: bool, verdict: str) -> None:
    noise = np.tile([0.1, -0.1], 50)
    result = means(np.zeros(100), noise + shift, margin=margin, higher_is_better=higher)
    assert result.verdict == verdict


@pytest.mark.parametrize(
    ("baseline", "candidate", "clusters", "error"),
    [
        ([0.5], [0.7], ["a"], None),
        ([0.1, 0.2, 0.3], [0.3, 0.1, 0.9], ["a", "a", "a"], None),
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], ["a", "b", "c"], 0.0),
        ([0.1, 0.2, 0.3], [0.2, 0.3, 0.4], ["a", "b", "c"], 0.0),
    ],
)
def test_without_spread_nothing_is_claimed(
    baseline: list[float], candidate: list[float], clusters: list[str], error: float | None
) -> None:
    for result in (
        means(baseline, candidate, clusters),
        perplexities(baseline, candidate, [1.0] * len(baseline), clusters),
    ):
        assert result.standard_error == error
        assert result.p_value is None
        assert result.ci_low is None
        assert result.ci_high is None
        assert result.minimum_detectable_difference is None
        assert result.verdict == "inconclusive"


@pytest.mark.parametrize(("right", "verdict"), [((0, 1), "improved"), ((1, 0), "regressed"), ((1, 1), "inconclusive")])
def test_clusters_that_all_come_out_alike_are_judged_as_so_many_items(right: tuple[float, float], verdict: str) -> None:
    """Of 20 documents of ten questions each, all won: as sure as 20 questions won, and no surer."""
    clustered = means([right[0]] * 200, [right[1]] * 200, [i // 10 for i in range(200)], margin=0.01)
    alone = means([right[0]] * 20, [right[1]] * 20, range(20), margin=0.01)
    assert clustered.verdict == alone.verdict == verdict
    assert (clustered.ci_low, clustered.ci_high, clustered.p_value) == (alone.ci_low, alone.ci_high, alone.p_value)
    assert clustered.minimum_detectable_difference == alone.minimum_detectable_difference
    assert (clustered.n, clustered.clusters) == (200, 20)
    assert clustered.p_value == pytest.approx(1.0 if right[0] == right[1] else 2 / 2**20)


def test_preferences_are_judged_by_wins_and_losses() -> None:
    won = means([0.5] * 30, [1.0] * 20 + [0.5] * 4 + [0.0] * 6)
    graded = means([0.0] * 20 + [1.0] * 10, [1.0] * 24 + [0.0] * 6)
    assert (won.test, won.verdict) == (graded.test, graded.verdict) == ("McNemar, exact", "improved")
    assert won.p_value == graded.p_value
    assert (won.ci_low, won.ci_high) == pytest.approx([(end or 0.0) / 2 for end in (graded.ci_low, graded.ci_high)])
    assert means([0.5] * 30, [1.0] * 30).verdict == "improved"


def test_a_huge_cluster_that_comes_out_as_all_others_makes_nothing_surer() -> None:
    sizes = [*[1] * 5, 500]
    names = np.repeat(range(6), sizes).tolist()
    found = means([0.0] * 505, [1.0] * 505, names)
    assert found.verdict == "inconclusive"
    assert found.p_value == pytest.approx(2 / 2**5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_no_number_names_its_row(bad: float) -> None:
    with pytest.raises(FineTuneError) as caught:
        means([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, bad, 0.4])
    assert caught.value.code == "E01"
    assert "row 2" in caught.value.where
    assert "candidate" in caught.value.what


def test_no_items_or_no_tokens_are_said_to_be_none() -> None:
    with pytest.raises(FineTuneError, match="no item"):
        means([], [])
    with pytest.raises(FineTuneError, match="no token"):
        perplexities([0.0, 0.0], [0.0, 0.0], [0, 0], ["a", "b"])
    with pytest.raises(FineTuneError, match="no perplexity"):
        perplexities([9000.0, 9100.0], [1.0, 2.0], [10, 10], ["a", "b"])


def token_rows(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw 400 documents' NLL under two models, with lengths, in 80 clusters that share difficulty and gain."""
    clusters = rng.integers(0, 80, 400)
    tokens = rng.integers(5, 200, 400).astype(float)
    hard, gain = rng.normal(2.5, 0.4, 80)[clusters], rng.normal(0.3, 0.1, 80)[clusters]
    baseline = tokens * (hard + rng.normal(0, 0.2, 400))
    return baseline, baseline - tokens * (gain + rng.normal(0, 0.1, 400)), tokens, clusters


def test_ratio_errors_agree_with_a_cluster_bootstrap() -> None:
    rng = np.random.default_rng(3)
    baseline, candidate, tokens, clusters = token_rows(rng)
    ppl = perplexities(baseline, candidate, tokens, clusters.tolist())
    bits = perplexities(baseline, candidate, tokens, clusters.tolist(), transform="bits_per_byte")
    totals = np.stack([np.bincount(clusters, weights=w, minlength=80) for w in (baseline, candidate, tokens)])
    drawn = totals[:, rng.integers(0, 80, (4000, 80))].sum(axis=2)
    boot_before, boot_after = drawn[0] / drawn[2], drawn[1] / drawn[2]
    assert ppl.standard_error == pytest.approx((np.exp(boot_after) - np.exp(boot_before)).std(), rel=0.08)
    assert bits.standard_error == pytest.approx(((boot_after - boot_before) / math.log(2)).std(), rel=0.08)
    low, high = np.expm1(np.quantile(boot_after - boot_before, [0.025, 0.975]))
    assert ppl.relative_ci_low == pytest.approx(low, abs=0.01)
    assert ppl.relative_ci_high == pytest.approx(high, abs=0.01)


def test_perplexity_is_of_the_token_weighted_mean() -> None:
    result = perplexities([10.0, 1.0], [5.0, 2.0], [10, 1], ["a", "b"])
    assert result.baseline == pytest.approx(math.exp(1.0))
    assert result.candidate == pytest.approx(math.exp(7 / 11))
    assert result.relative == pytest.approx(result.difference / result.baseline)


def test_equal_weights_reduce_a_ratio_to_the_mean() -> None:
    rng = np.random.default_rng(8)
    baseline, candidate, clusters = rng.normal(3, 1, 60), rng.normal(2.8, 1, 60), (np.arange(60) // 3).tolist()
    mean = means(baseline / 4, candidate / 4, clusters, higher_is_better=False)
    bits = perplexities(baseline, candidate, [4.0] * 60, clusters, transform="bits_per_byte")
    assert bits.p_value == pytest.approx(mean.p_value)
    assert bits.standard_error == pytest.approx((mean.standard_error or 0) / math.log(2))
    assert bits.verdict == mean.verdict


def test_lower_perplexity_is_an_improvement() -> None:
    baseline, candidate, tokens, clusters = token_rows(np.random.default_rng(4))
    assert perplexities(baseline, candidate, tokens, clusters.tolist()).verdict == "improved"
    worse = perplexities(candidate, baseline, tokens, clusters.tolist(), margin=0.5)
    assert worse.verdict == "regressed"
    assert perplexities(candidate, baseline, tokens, clusters.tolist(), margin=50.0).verdict == "non_inferior"


@pytest.mark.parametrize(("gain", "turned"), [(0.12, False), (0.12, True), (0.5, False), (0.5, True)])
def test_the_smallest_perplexity_found_is_of_the_error_that_p_is_of(gain: float, turned: bool) -> None:
    rng, df = np.random.default_rng(6), 299
    share = 1 + student_t.quantile(0.8, df=df) / student_t.quantile(0.975, df=df)
    for _ in range(20):
        hard, tokens = rng.normal(3, 1, 300), np.full(300, 100.0)
        pair = tokens * hard, tokens * (hard - rng.normal(gain, 0.8, 300))
        found = perplexities(*reversed(pair) if turned else pair, tokens, range(300))
        low, high = (math.log1p(end or 0.0) for end in (found.relative_ci_low, found.relative_ci_high))
        least, moved = share * (high - low) / 2, math.log(found.candidate / found.baseline)
        assert found.minimum_detectable_difference is not None
        assert found.minimum_detectable_difference == pytest.approx(
            found.baseline * abs(math.exp(math.copysign(least, moved)) - 1)
        )
        assert (abs(found.difference) < found.minimum_detectable_difference) == (abs(moved) < least)
        assert found.p_value is not None
        assert found.p_value < 0.05 or abs(found.difference) < found.minimum_detectable_difference


def test_a_fall_in_perplexity_is_found_though_a_rise_as_likely_would_exceed_it() -> None:
    hard = np.linspace(2, 4, 8)
    gains = np.array([0.2, 1.4, 0.6, 1.0, 0.5, 1.5, 0.1, 1.3])
    found = perplexities(hard, hard - gains, [1.0] * 8, range(8))
    assert found.verdict == "improved"
    assert found.minimum_detectable_difference is not None
    assert found.minimum_detectable_difference < -found.difference < found.baseline


def test_published_win_rates_and_standard_errors_come_out() -> None:
    files = sorted(PAIRED.rglob("alpaca_eval2_*.csv"))
    if not files:
        pytest.skip("the published preference files are not on this machine")
    items: dict[str, list[float]] = defaultdict(list)
    with next(f for f in files if "preferences" in f.name).open() as file:
        for row in csv.DictReader(file):
            for model, value in row.items():
                if model not in ("item", "len_ref") and not model.startswith("len:") and value:
                    items[model].append(float(value) - 1)
    with next(f for f in files if "leaderboard" in f.name).open() as file:
        board = {row["model"]: row for row in csv.DictReader(file)}
    known = [model for model in items if model in board]
    assert len(known) > 20
    for model in known:
        result = means([0.5] * len(items[model]), items[model])
        assert 100 * (result.difference + 0.5) == pytest.approx(float(board[model]["win_rate"]), abs=0.01)
        assert result.standard_error is not None
        assert 100 * result.standard_error == pytest.approx(float(board[model]["standard_error"]), abs=0.01)


def test_the_evaluation_document_reads_back_as_it_was_written(tmp_path: Path) -> None:
    document = Evaluation.read(GOLDEN)
    copy = tmp_path / "evaluation.json"
    document.write(copy)
    assert copy.read_bytes() == GOLDEN.read_bytes()
    assert document.verdict == "ready"
    assert Evaluation.read(copy).digest() == document.digest()


def few_gains(count: int, *, skewed: bool, rng: np.random.Generator) -> np.ndarray:
    """Draw gains of clusters of eight items that differ by chance alone, nine tenths of it shared by a cluster."""
    draw = (lambda size: rng.exponential(size=size) - 1) if skewed else (lambda size: rng.normal(size=size))
    return math.sqrt(0.9) * np.repeat(draw(count), 8) + math.sqrt(0.1) * draw(8 * count)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 8, 12])
def test_false_alarms_of_few_clusters_stay_at_the_level(count: int) -> None:
    rng, index, repeats = np.random.default_rng(count), np.repeat(np.arange(count), 8), 3000
    hits = sum(p_of(few_gains(count, skewed=False, rng=rng), index) < 0.05 for _ in range(repeats))
    assert 0.04 <= hits / repeats <= 0.06


@pytest.mark.parametrize("count", [2, 3])
def test_two_or_three_clusters_decide_nothing(count: int) -> None:
    rng = np.random.default_rng(count)
    cluster = np.repeat(np.arange(count), 8).tolist()
    found = [means(np.zeros(8 * count), few_gains(count, skewed=True, rng=rng), cluster) for _ in range(200)]
    assert {c.verdict for c in found} == {"inconclusive"}
    large = means([0.0] * 30, [1.0] * 10 + [1.01] * 20, [f"{i % count}" for i in range(30)])
    assert large.verdict == "inconclusive"
    assert large.ci_low is not None
