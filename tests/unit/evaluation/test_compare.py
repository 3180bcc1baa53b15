"""Comparisons of two result files: exact tests, corpus metrics, lengths, many parts, and bad input."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.domain.comparison import PairedResult
from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation import corpus, mcnemar, student_t
from finetune_exe.evaluation.compare import Question, compare_results
from finetune_exe.evaluation.foresight import detectable_difference, foresee
from finetune_exe.evaluation.length_control import length_corrected
from finetune_exe.evaluation.multiplicity import holm
from finetune_exe.evaluation.result_files import ItemResult, Keys, read_results
from finetune_exe.evaluation.spread import counted_parts
from finetune_exe.evaluation.statistics import compare_means
from finetune_exe.report.comparison import comparison_contract, render_comparison, render_foresight
from finetune_exe.units import format_count

PAIRED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "paired"


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def results(path: Path, scores: list[float], **columns: list[Any]) -> dict[str, ItemResult]:
    rows = [{"item": i, "score": s, **{k: v[i] for k, v in columns.items()}} for i, s in enumerate(scores)]
    return read_results(write(path, rows), Keys())


def test_different_metrics_are_not_compared(tmp_path: Path) -> None:
    a = read_results(write(tmp_path / "a", [{"id": i, "acc": 1} for i in range(5)]), Keys())
    b = read_results(write(tmp_path / "b", [{"id": i, "f1": 1} for i in range(5)]), Keys())
    with pytest.raises(FineTuneError, match="different fields, 'acc' and 'f1'"):
        compare_results("a", "b", a, b, Question())


@pytest.mark.parametrize("suites", [["chrf"] * 5, ["chrf", "rouge"] * 3, [None] * 5])
def test_what_is_compared_is_named_where_all_of_it_is_one_thing(suites: list[str | None], tmp_path: Path) -> None:
    a, b = (results(tmp_path / name, [0.1 * i for i in range(len(suites))], suite=suites) for name in "ab")
    said = "all scores are of one suite, chrf" in compare_results("a", "b", a, b, Question()).notes
    assert said == (set(suites) == {"chrf"})


# --- right and wrong answers ---


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test(wins: int, losses: int) -> None:
    n, most = wins + losses, max(wins, losses)
    tail = sum(math.comb(n, k) for k in range(most, n + 1)) / 2**n
    assert mcnemar.exact_p(wins, losses) == pytest.approx(min(1.0, 2 * tail))


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 60))
def test_the_ends_of_the_score_interval_are_where_its_test_refuses(wins: int, losses: int, tied: int) -> None:
    n = wins + losses + tied
    low, high = mcnemar.score_interval(wins, losses, n, confidence_level=0.95)
    assert -1 <= low <= (wins - losses) / n <= high <= 1
    other = mcnemar.score_interval(losses, wins, n, confidence_level=0.95)
    assert other == pytest.approx((-high, -low), abs=1e-9)
    chi_square = (wins - losses) ** 2 / (wins + losses)
    assert (low > 0 or high < 0) == (chi_square > 1.959964**2) or chi_square == pytest.approx(3.8415, abs=1e-3)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60))
def test_interval_and_p_value_of_right_and_wrong_answers_never_disagree(wins: int, losses: int, tied: int) -> None:
    n = max(1, wins + losses + tied)
    low, high = mcnemar.interval(wins, losses, n, confidence_level=0.95)
    if low > 0 or high < 0:
        assert mcnemar.exact_p(wins, losses) < 0.05
    assert low <= (wins - losses) / n <= high


@pytest.mark.parametrize(("wins", "losses", "low", "high"), [(8, 2, 0.4439, 0.9748), (5, 0, 0.4782, 1.0)])
def test_exact_intervals_are_those_published(wins: int, losses: int, low: float, high: float) -> None:
    """Of the share that is won of those that differ: Clopper and Pearson's for 8 of 10; 0.025 ** (1 / 5) for all 5."""
    found = mcnemar.exact_interval(wins, losses, wins + losses, confidence_level=0.95)
    assert found == pytest.approx((2 * low - 1, 2 * high - 1), abs=2e-4)
    few = mcnemar.exact_interval(wins, losses, 10 * (wins + losses), confidence_level=0.95)
    assert few == pytest.approx((found[0] / 10, found[1] / 10))


def test_a_loss_is_not_ruled_out_by_four_items() -> None:
    found = compare_means([0.0] * 4, [1.0] * 4, range(4), metric="s", higher_is_better=True, margin=0.01)
    assert found.verdict == "inconclusive"
    assert found.p_value == pytest.approx(0.125)


def test_intervals_of_few_right_and_wrong_answers_miss_no_more_often_than_they_say() -> None:
    """Every outcome of 10 items, at every share that differs: at most one in 40 on each side, whatever the truth."""
    n = 10
    outcomes = [(wins, losses) for wins in range(n + 1) for losses in range(n + 1 - wins)]
    lows = {pair: mcnemar.interval(*pair, n, confidence_level=0.95)[0] for pair in outcomes}
    score_lows = {pair: mcnemar.score_interval(*pair, n, confidence_level=0.95)[0] for pair in outcomes}
    worst = {"both": 0.0, "score": 0.0}
    for truth in (-0.1, -0.05, -0.02, 0.0, 0.1):
        for share in np.linspace(max(abs(truth), 0.05), 1, 20):
            won, lost = (share + truth) / 2, (share - truth) / 2
            chances = {
                (a, b): math.comb(n, a) * math.comb(n - a, b) * won**a * lost**b * (1 - share) ** (n - a - b)
                for a, b in outcomes
            }
            for name, ends in (("both", lows), ("score", score_lows)):
                missed = sum(chance for pair, chance in chances.items() if ends[pair] > truth + 1e-9)
                worst[name] = max(worst[name], missed)
    assert worst["both"] <= 0.025
    assert worst["score"] > 0.035


def test_without_a_differing_item_the_interval_still_has_a_width() -> None:
    """Tango's closed form where no item differs: z^2 / (n + z^2)."""
    low, high = mcnemar.score_interval(0, 0, 200, confidence_level=0.95)
    assert high == pytest.approx(1.959964**2 / (200 + 1.959964**2), rel=1e-4)
    assert low == pytest.approx(-high)
    found = compare_means([1.0] * 400, [1.0] * 400, range(400), metric="s", higher_is_better=True, margin=0.01)
    assert (found.verdict, found.p_value) == ("non_inferior", 1.0)
    few = compare_means([1.0] * 40, [1.0] * 40, range(40), metric="s", higher_is_better=True, margin=0.01)
    assert few.verdict == "inconclusive"


def test_the_least_detectable_difference_is_found_four_times_in_five() -> None:
    share = mcnemar.least_detectable(100, alpha=0.05, power=0.8)
    assert share is not None
    wins = np.random.default_rng(4).binomial(100, share, 4000)
    assert np.mean([mcnemar.exact_p(int(w), 0) < 0.05 for w in wins]) == pytest.approx(0.8, abs=0.03)
    assert mcnemar.least_detectable(4, alpha=0.05, power=0.8) is None


def test_false_alarms_of_the_exact_test_stay_below_the_level() -> None:
    rng, hits = np.random.default_rng(9), 0
    for _ in range(800):
        a, b = rng.random(300) < 0.7, rng.random(300) < 0.7
        found = compare_means(a * 1.0, b * 1.0, range(300), metric="s", higher_is_better=True, margin=0)
        hits += found.verdict in ("improved", "regressed")
    assert 0.02 <= hits / 800 <= 0.055


# --- metrics of a corpus ---

SENTENCES = [
    "The cat sat on the mat.",
    "Return the number of items, or None.",
    "Ein Haus (am See) steht da!",
    "abc",
    "a b c d e f g",
]


@pytest.mark.parametrize("metric", ["chrf", "bleu"])
def test_corpus_metrics_are_those_of_sacrebleu(metric: Any) -> None:
    from sacrebleu.metrics import BLEU, CHRF

    rng = np.random.default_rng(2)
    for _ in range(20):
        answers = [" ".join(rng.permutation(s.split())[: int(rng.integers(1, 8))]) for s in SENTENCES]
        theirs = (CHRF(word_order=2) if metric == "chrf" else BLEU()).corpus_score(answers, [SENTENCES]).score
        ours = corpus.corpus_scores(metric, corpus.item_counts(metric, answers, SENTENCES).sum(axis=0))
        assert float(ours) == pytest.approx(theirs, abs=1e-6)


def test_a_corpus_comparison_finds_a_loss_and_no_more() -> None:
    rng = np.random.default_rng(5)
    words = [f"w{i}" for i in range(50)]
    references = [" ".join(rng.choice(words, 12)) for _ in range(60)]

    def spoilt(share: float) -> list[str]:
        return [" ".join(w if rng.random() > share else "x" for w in r.split()) for r in references]

    base, same, worse = spoilt(0.3), spoilt(0.3), spoilt(0.5)
    clusters = [i // 3 for i in range(60)]
    found = corpus.compare_corpora("chrf", base, worse, references, clusters, margin=1, draws=400)
    assert found.verdict == "regressed"
    assert found.clusters == 20
    assert (
        corpus.compare_corpora("chrf", base, same, references, clusters, margin=9, draws=400).verdict == "non_inferior"
    )
    alone = corpus.compare_corpora("bleu", base[:2], worse[:2], references[:2], [0, 1], margin=1, draws=50)
    assert (alone.verdict, alone.p_value) == ("inconclusive", None)


@pytest.mark.parametrize("metric", ["chrf", "bleu"])
def test_a_corpus_of_many_clusters_is_resampled_in_parts_that_change_nothing(
    metric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [" ".join(s.split()[1:]) for s in SENTENCES]
    spoilt = [" ".join(s.split()[:2]) for s in SENTENCES]
    found = []
    for cells in (7, 10**9):
        monkeypatch.setattr(corpus, "_MOST_CELLS", cells)
        found.append(
            corpus.compare_corpora(metric, answers, spoilt, SENTENCES, range(len(SENTENCES)), margin=1, draws=90)
        )
    assert found[0] == found[1]
    assert found[0].p_value is not None


# --- many parts, lengths, before the run ---


def test_holm_against_the_worked_example() -> None:
    """Four hypotheses of Holm's method as in textbooks: .01, .04, .03, .005 become .03, .06, .06, .02."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([None, 0.02]) == (None, 0.02)


def test_suites_are_judged_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    suites = [f"s{i % 12}" for i in range(600)]
    a = rng.normal(size=600)
    b = a + rng.normal(0, 1, 600) + np.array([0.25 if s == "s3" else 0 for s in suites])
    found = compare_results(
        "a",
        "b",
        results(tmp_path / "a", a.tolist(), suite=suites),
        results(tmp_path / "b", b.tolist()),
        Question(margin=0.0),
    )
    raw = [part.comparison.p_value for part in found.suites]
    assert [part.p_adjusted for part in found.suites] == pytest.approx(holm(raw))
    for part in found.suites:
        assert part.p_adjusted is not None
        if part.p_adjusted >= 0.05:
            assert part.verdict not in ("improved", "regressed")


def test_a_judge_that_only_loves_length_is_corrected_to_one_half() -> None:
    rng = np.random.default_rng(10)
    a, b = rng.normal(500, 150, 2000), rng.normal(700, 200, 2000)
    share = 1 / (1 + np.exp(-2.0 * np.tanh((b - a) / np.std(b - a))))
    judged = length_corrected(share.tolist(), a.tolist(), b.tolist(), list(range(2000)))
    assert judged is not None
    assert judged.win_rate > 0.65
    assert judged.corrected == pytest.approx(0.5, abs=0.02)
    assert judged.length_effect == pytest.approx(2.0, abs=0.2)
    drawn = length_corrected(((rng.random(2000) < share) * 1.0).tolist(), a.tolist(), b.tolist(), list(range(2000)))
    assert drawn is not None
    assert drawn.ci_low < 0.5 < drawn.ci_high


def test_length_correction_ranks_published_models_as_the_publisher_does() -> None:
    files = sorted(PAIRED.rglob("alpaca_eval2_*.csv"))
    if not files:
        pytest.skip("the published preference files are not on this machine")
    with next(f for f in files if "leaderboard" in f.name).open() as file:
        board = {row["model"]: row for row in csv.DictReader(file)}
    with next(f for f in files if "preferences" in f.name).open() as file:
        rows = list(csv.DictReader(file))
    raw_error, error, ours, theirs = [], [], [], []
    for model, published in board.items():
        held = [r for r in rows if r.get(model) and r.get(f"len:{model}")]
        if len(held) < 100:
            continue
        found = length_corrected(
            [float(r[model]) - 1 for r in held], [float(r["len_ref"]) for r in held],
            [float(r[f"len:{model}"]) for r in held], [r["item"] for r in held],
        )  # fmt: skip
        if found is None:
            continue
        target = float(published["length_controlled_winrate"])
        ours.append(found.corrected)
        theirs.append(target)
        error.append(abs(100 * found.corrected - target))
        raw_error.append(abs(100 * found.win_rate - target))
    assert len(ours) > 20
    assert np.corrcoef(np.argsort(np.argsort(ours)), np.argsort(np.argsort(theirs)))[0, 1] > 0.97
    assert np.mean(error) < 0.6 * np.mean(raw_error)


@pytest.mark.parametrize(
    ("share", "n", "expected"), [(0.1, 100, 0.089), (0.2, 500, 0.056), (0.3, 1000, 0.049), (0.1, 2000, 0.02)]
)
def test_detectable_differences_against_known_values(share: float, n: int, expected: float) -> None:
    found = detectable_difference([1] * n, deviation=math.sqrt(share), shared=0)
    assert found == pytest.approx(expected, rel=0.03)


def test_what_is_foreseen_with_a_huge_cluster_is_the_error_of_its_mean_so_counted() -> None:
    """Simulated: normal gains, of which a half is shared."""
    sizes, rng = [90] + [10] * 9, np.random.default_rng(2)
    parts = counted_parts(np.array(sizes, dtype=np.float64))
    index = np.repeat(np.arange(10), sizes)
    means = []
    for _ in range(4000):
        values = math.sqrt(0.5) * (rng.normal(size=10)[index] + rng.normal(size=len(index)))
        means.append(np.sum(parts[index] * values) / np.sum(parts[index]))
    found = detectable_difference(sizes, deviation=1.0, shared=0.5)
    units = student_t.quantile(0.975, df=9) + student_t.quantile(0.8, df=9)
    assert found == pytest.approx(units * float(np.std(means)), rel=0.05)


def test_clusters_make_the_detectable_difference_larger() -> None:
    alone = foresee("a", [0.0, 1.0] * 100, list(range(200)))
    grouped = foresee("a", [0.0, 1.0] * 100, [i // 10 for i in range(200)])
    assert grouped.clusters == 20
    for one, many in zip(alone.detectable, grouped.detectable, strict=True):
        assert one.difference is not None
        assert many.difference is None or many.difference > 1.5 * one.difference
    assert [entry.difference is None for entry in grouped.detectable] == [True, False, False]
    assert foresee("a", [1.0], ["x"]).detectable[0].difference is None
    few = foresee("a", [1.0, 0.0, 1.0], ["x", "y", "z"])
    assert [entry.difference for entry in few.detectable] == [None, None, None]
    assert render_foresight(few).count("none: too few items") == 3
    some = foresee("a", [0.0, 1.0] * 30, list(range(60))).detectable
    assert all(entry.difference is None or entry.difference <= share
               for entry, share in zip(some, (0.1, 0.2, 0.3), strict=True))  # fmt: skip


# --- files ---


def test_items_are_paired_by_name_and_those_of_one_file_are_counted(tmp_path: Path) -> None:
    a = read_results(
        write(tmp_path / "a", [{"item": "x", "score": 1}, {"item": "y", "score": 0}, {"item": "z", "score": 0}]), Keys()
    )
    b = read_results(write(tmp_path / "b", [{"item": "y", "score": True}, {"item": "x", "score": 1}]), Keys())
    found = compare_results("a", "b", a, b, Question())
    assert (found.comparison.n, found.only_in_a, found.only_in_b) == (2, 1, 0)
    assert found.comparison.difference == pytest.approx(0.5)
    assert any("left out" in note for note in found.notes)
    assert [item.item for item in found.best] == ["y"]


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    a = results(tmp_path / "a", [1.0, 0.0], cluster=["p", "q"])
    with pytest.raises(FineTuneError, match="share no item"):
        compare_results("a", "b", a, {"other": next(iter(a.values()))}, Question())
    with pytest.raises(FineTuneError, match="disagree about the cluster"):
        compare_results("a", "b", a, results(tmp_path / "b", [1.0, 0.0], cluster=["p", "r"]), Question())
    with pytest.raises(FineTuneError, match="no line has the field 'lang'"):
        compare_results("a", "b", a, a, Question(slice_key="lang"))


@pytest.mark.parametrize("what", ["prompt", "reference"])
def test_items_of_one_name_that_are_not_the_same_are_refused(tmp_path: Path, what: str) -> None:
    long = "Long and alike. " * 20
    a = results(tmp_path / "a", [1.0, 0.0, 1.0], **{what: ["One?", "Two?", f"{long}Three?"]})
    same = results(tmp_path / "b", [0.0, 0.0, 1.0], **{what: ["One?", " Two?\n", f"{long}\tThree?"]})
    assert compare_results("a", "b", a, same, Question()).comparison.n == 3
    other = results(tmp_path / "b", [0.0, 0.0, 1.0], **{what: ["One?", "Two?", f"{long}Four?"]})
    with pytest.raises(FineTuneError, match=f"disagree about the {what} of 1 of 3 items") as caught:
        compare_results("a", "b", a, other, Question())
    assert "Three?' in a" in caught.value.where
    assert "Four?' in b" in caught.value.where
    assert what in caught.value.fix
    silent = results(tmp_path / "b", [0.0, 0.0, 1.0])
    assert compare_results("a", "b", a, silent, Question()).comparison.n == 3


def test_the_same_item_asked_in_other_words_is_compared_and_said(tmp_path: Path) -> None:
    a = results(tmp_path / "a", [1.0, 0.0], prompt=["One?", "Two?"], reference=["1", "2"])
    b = results(tmp_path / "b", [1.0, 1.0], prompt=["One?", "Say two."], reference=["1", "2"])
    notes = compare_results("a", "b", a, b, Question()).notes
    assert any("1 of 2 items were asked in other words" in note for note in notes)
    assert not any("other words" in note for note in compare_results("a", "b", a, a, Question()).notes)


@pytest.mark.parametrize("scores", [[0.3], [0.3, 0.3, 0.3], [0.1, 0.2, 0.3]])
def test_where_nothing_can_be_said_nothing_is_said(tmp_path: Path, scores: list[float]) -> None:
    a = results(tmp_path / "a", scores)
    found = compare_results("a", "b", a, a, Question())
    contract = comparison_contract(found)
    assert contract["verdict"] == "inconclusive"
    assert contract["ci95"] is None
    assert contract["p_value"] is None
    alone = "one item" if len(scores) == 1 else "no score differs between A and B"
    assert any(alone in note for note in found.notes)
    said = render_comparison(found)
    assert "CANNOT SAY" in said
    assert ("Items in both: 1 in 1 cluster" if len(scores) == 1 else "Items in both: 3, each alone") in said


def test_ties_alone_say_nothing_of_length(tmp_path: Path) -> None:
    a = results(tmp_path / "a", [1.0, 0.0, 1.0], length=[5, 9, 7])
    b = results(tmp_path / "b", [1.0, 0.0, 1.0], length=[8, 20, 9])
    assert compare_results("a", "b", a, b, Question()).length is None


def test_a_folder_that_is_no_evaluated_run_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(FineTuneError) as caught:
        read_results(tmp_path, Keys())
    assert caught.value.code == "D07"
    assert "fine-tune eval RUN" in caught.value.fix


def test_few_clusters_come_with_the_measured_error_rate(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)

    def compared(count: int, **asked: Any) -> PairedResult:
        cluster = [f"c{i % count}" for i in range(4 * count)]
        a = results(tmp_path / "a", rng.random(4 * count).tolist(), cluster=cluster)
        b = results(tmp_path / "b", rng.random(4 * count).tolist(), cluster=cluster)
        return compare_results("a", "b", a, b, Question(**asked))

    def notes(count: int, **asked: Any) -> str:
        return " ".join(compared(count, **asked).notes)

    assert "with 5 clusters" in notes(5)
    assert "of 100 comparisons find a difference where there is none" in notes(29)
    assert "of 100" not in notes(30)
    assert "of 100" not in notes(29, confidence_level=0.9)
    assert "decide nothing" in notes(3)
    assert "of 100" not in notes(3)


def test_items_needed_are_said_with_their_clusters_and_never_of_two_or_three(tmp_path: Path) -> None:
    def compared(count: int) -> PairedResult:
        cluster = [f"c{i % count}" for i in range(60)]
        a = results(tmp_path / "a", [i % 7 / 7 for i in range(60)], cluster=cluster)
        b = results(tmp_path / "b", [i % 5 / 5 + i % 2 / 10 for i in range(60)], cluster=cluster)
        return compare_results("a", "b", a, b, Question())

    few, more = compared(3), compared(10)
    assert few.comparison.verdict == more.comparison.verdict == "inconclusive"
    assert few.items_needed is None
    assert "Fewer than 4 clusters decide nothing" in render_comparison(few)
    assert more.items_needed is not None
    clusters = format_count(round(more.items_needed / 6))
    said = f"about {format_count(more.items_needed)} items, in {clusters} clusters"
    assert said in " ".join(render_comparison(more).split())


def test_a_cluster_that_would_decide_alone_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    cluster = ["the long manual"] * 72 + [f"page {i % 9}" for i in range(72)]
    texts = {"reference": ["a b c d"] * 144, "suite": (["long"] * 72 + ["short"] * 72)}
    both = [
        results(
            tmp_path / name, rng.random(144).tolist(), cluster=cluster,
            answer=[" ".join(rng.permutation(list("abcd"))) for _ in range(144)], **texts,
        )
        for name in "ab"
    ]  # fmt: skip
    for metric in (None, "chrf"):
        found = compare_results("a", "b", *both, Question(corpus=metric))
        assert f"{'Mean' if metric is None else 'chrF++'} of A:" in render_comparison(found)
        [note] = [note for note in found.notes if "decide alone" in note]
        assert "'the long manual' holds 50%" in note
        large = found.comparison.weighed_down
        assert large is not None
        assert large.counted == pytest.approx(math.sqrt(9 * 64 / 2) / (math.sqrt(9 * 64 / 2) + 72))
        assert found.comparison.ci_low is not None
        assert found.comparison.ci_high is not None
        assert found.comparison.ci_low < large.difference < found.comparison.ci_high
    alike = [
        results(tmp_path / name, rng.random(40).tolist(), cluster=[f"c{i % 10}" for i in range(40)]) for name in "ab"
    ]
    assert not any("decide alone" in note for note in compare_results("a", "b", *alike, Question()).notes)


def test_corpora_in_too_few_clusters_are_told_from_such_as_do_not_differ(tmp_path: Path) -> None:
    texts = {"answer": [f"w{i} a b" for i in range(6)], "reference": [f"w{i} a c" for i in range(6)]}
    a = results(tmp_path / "a", [0.0] * 6, cluster=["p", "q", "r"] * 2, **texts)
    b = results(tmp_path / "b", [0.0] * 6, cluster=["p", "q", "r"] * 2, **{**texts, "answer": texts["reference"]})
    found = compare_results("a", "b", a, b, Question(corpus="chrf"))
    assert found.comparison.verdict == "inconclusive"
    assert any("3 clusters are too few" in note for note in found.notes)


def test_a_field_that_makes_no_slices_is_said_to_make_none(tmp_path: Path) -> None:
    a = results(tmp_path / "a", [0.1, 0.4, 0.2], lang=["de"] * 3)
    assert any(
        "'lang' has one value alone" in note
        for note in compare_results("a", "b", a, a, Question(slice_key="lang")).notes
    )


def test_a_length_that_is_none_is_left_aside(tmp_path: Path) -> None:
    lines = ['{"item": 0, "score": 1, "length": 1' + "0" * 400 + "}", '{"item": 1, "score": 1, "length": -5}']
    assert [r.length for r in read_results(write(tmp_path / "a", lines), Keys()).values()] == [None, None]


def test_items_without_a_score_are_left_out_where_that_is_asked_for_and_counted(tmp_path: Path) -> None:
    rows = [{"item": i, "score": i % 3 / 2} for i in range(12)]
    a, b = [dict(row) for row in rows], [dict(row) for row in rows]
    a[0]["score"], a[1]["score"], b[1]["score"] = None, math.nan, None
    del b[2]["score"]
    keys = Keys(leave_out_unscored=True)
    read = [read_results(write(tmp_path / name, side), keys) for name, side in (("a", a), ("b", b))]
    found = compare_results("a", "b", *read, Question())
    assert found.comparison.n == 9
    assert "2 items of A and 2 of B have no score and were left out" in found.notes[0]
    assert (found.only_in_a, found.only_in_b) == (0, 0)
    with pytest.raises(FineTuneError, match="2 lines of the results"):
        read_results(tmp_path / "a", Keys())
    none = read_results(write(tmp_path / "c", [{"item": i, "score": None} for i in range(12)]), keys)
    for asked in (lambda: compare_results("a", "c", read[0], none, Question()), lambda: foresee("c", [], [])):
        with pytest.raises(FineTuneError, match="no item has a score") as caught:
            asked()
        assert caught.value.code == "E03"


def test_shares_beside_percentages_are_refused_unless_a_margin_says_that_they_are_of_one_scale(tmp_path: Path) -> None:
    """The same answers, once as shares and once as percentages, must not pass for a gain of 24 points."""
    shares = [i % 5 / 5 for i in range(20)]
    a, b = results(tmp_path / "a", shares), results(tmp_path / "b", [100 * share for share in shares])
    for one, other in ((a, b), (b, a)):
        with pytest.raises(FineTuneError, match="two scales") as caught:
            compare_results("a", "b", one, other, Question())
        assert (caught.value.code, "--margin" in caught.value.fix) == ("E03", True)
        told = compare_results("a", "b", one, other, Question(margin=1.0))
        assert any("one file holds shares" in note for note in told.notes)
    for same in (a, b):
        assert not any("shares" in note for note in compare_results("a", "b", same, same, Question()).notes)


def test_the_contract_has_its_keys(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    a, b = results(tmp_path / "a", rng.random(30).tolist()), results(tmp_path / "b", rng.random(30).tolist())
    contract = comparison_contract(compare_results("a", "b", a, b, Question(margin=0.1)))
    assert {"n", "clusters", "mean_a", "mean_b", "difference", "standard_error", "ci95", "p_value", "test",
            "minimum_detectable_difference", "verdict", "margin"} <= set(contract)  # fmt: skip
    assert contract["margin"] == 0.1
    assert contract["mean_b"] - contract["mean_a"] == pytest.approx(contract["difference"])
    json.dumps(contract, allow_nan=False)


def test_texts_of_items_cannot_steer_a_terminal_or_a_page(tmp_path: Path) -> None:
    a = results(tmp_path / "a", [1.0, 0.5], prompt=["\x1b[31m<b>x</b>", "y"], answer=["| a |", "b"])
    b = results(tmp_path / "b", [0.0, 0.5])
    found = compare_results("a", "b", a, b, Question())
    assert "\x1b" not in render_comparison(found)


@pytest.mark.parametrize(
    ("scores", "margin"),
    [([0.0, 1.0, 1.0, 0.0], 0.01), ([0.0, 100.0, 80.0, 20.0], 1.0), ([0.0, 1.2, 0.4, 0.8], None), ([0.50, 0.51, 0.52, 0.51], None),
     ([1.0, 9.0, 5.0, 7.0], None), ([-1.0, 0.5, 0.2, 1.0], None)],
)  # fmt: skip
def test_the_margin_is_small_beside_the_spread_of_the_scores(
    tmp_path: Path, scores: list[float], margin: float | None
) -> None:
    a = results(tmp_path / "a", scores)
    found = compare_results("a", "b", a, a, Question()).comparison.margin
    assert found == pytest.approx(margin if margin is not None else 0.05 * float(np.std(scores)))
    assert found <= 0.11 * float(np.std(scores))
