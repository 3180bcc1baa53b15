"""The page of an evaluation says what the written report says."""

from __future__ import annotations

import re
from html import unescape

from tests.unit.report import sample

from finetune_exe.domain.evaluation import Comparison, Evaluation
from finetune_exe.report.html.evaluation import evaluation_page, interval_table


def words_of(evaluation: Evaluation) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", evaluation_page(evaluation).decode())).split())


def test_the_page_says_what_a_comparison_and_the_verdict_rest_on() -> None:
    said = words_of(sample.evaluation())
    assert "NOT READY; failed: answers end by themselves" in said
    assert "MDE: the smallest true difference" in said
    assert "perplexity (lower is better): paired, clustered, log scale; items: 480 in 52 clusters" in said
    assert "perplexity improved 30.52 6.424 -24.1 -26.5 to -21.7 -79.0 (-81.0 to -77.0) <0.001 0.8" in said
    assert "ended by themselves: base 62.0 %, tuned 100.0 %" in said
    assert "of 2 points decided; open: 1" in said
    assert "Made from: plan a1a1a1a1a1a1, dataset b2b2b2b2b2b2, weights c3c3c3c3c3c3" in said
    assert "-0.08 [-0.105, -0.055] <0.001 0.036 worse" in said
    assert said.index("NOT READY") < said.index("Base against tuned")


def test_a_page_without_answers_says_nothing_of_them() -> None:
    assert "ended by themselves:" not in words_of(sample.evaluation().model_copy(update={"generation": None}))


def drawn(comparison: Comparison, **changes: object) -> str:
    known = {"minimum_detectable_difference": 0.5, "higher_is_better": True, "verdict": "inconclusive"}
    page = interval_table([comparison.model_copy(update=known | changes)]).source
    return page[page.index("<tbody>") :]


def test_a_difference_is_drawn_in_units_of_the_smallest_that_could_be_found() -> None:
    comparison = sample.comparisons()[0]
    better = drawn(comparison, ci_low=0.5, difference=1.0, ci_high=1.5, verdict="improved")  # 1 to 3 of 4 units
    assert '<rect x="62.5%" y="42%" width="25.0%" height="16%" class="good">' in better
    assert '<rect x="74.5%" y="25%" width="1.0%" height="50%" class="good">' in better
    assert [f'<line x1="{at}%"' in better for at in ("37.5", "50.0", "62.5")] == [True] * 3
    worse = drawn(comparison, ci_low=0.5, difference=1.0, ci_high=1.5, higher_is_better=False, verdict="regressed")
    assert '<rect x="12.5%" y="42%" width="25.0%" height="16%" class="error">' in worse
    assert '<rect x="24.5%" y="25%"' in worse


def test_an_interval_that_leaves_the_drawing_has_an_arrow_there() -> None:
    comparison = sample.comparisons()[0]
    right = drawn(comparison, ci_low=-1.0, difference=1.0, ci_high=7.0)
    assert "\u25b6" in right
    assert "\u25c0" not in right
    assert '<rect x="41.7%" y="42%" width="58.3%"' in right  # from -2 to 12 of 24 units
    left = drawn(comparison, ci_low=-90.0, difference=-70.0, ci_high=-60.0)
    assert "\u25c0" in left
    assert 'y="25%"' not in left
    near = drawn(comparison, ci_low=-7.0, difference=-5.99, ci_high=1.0)
    assert '<rect x="0.0%" y="25%"' in near


def test_no_interval_is_said_and_not_drawn() -> None:
    for missing in ({"ci_low": None}, {"ci_high": None}, {"minimum_detectable_difference": None}):
        row = drawn(sample.comparisons()[0], **missing)
        assert "no interval" in row
        assert "<svg" not in row


def test_texts_cannot_become_markup() -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m"
    evaluation = sample.evaluation()
    [shown] = evaluation.samples
    check = evaluation.readiness[0].model_copy(update={"name": evil, "detail": evil, "fix": evil, "passed": False})
    spoilt = evaluation.model_copy(update={
        "baseline": evil, "candidate": evil, "comparison_notes": (evil,), "readiness": (check,),
        "comparisons": (evaluation.comparisons[0].model_copy(update={"metric": evil, "test": evil}),),
        "samples": (shown.model_copy(update=dict.fromkeys(("source", "prompt", "reference", "candidate"), evil)),),
    })  # fmt: skip
    page = evaluation_page(spoilt).decode()
    assert "<script" not in page
    assert "<img" not in page
    assert "\x1b" not in page
    assert "alert(1)" in page
