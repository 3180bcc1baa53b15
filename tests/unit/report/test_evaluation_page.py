"""The page of an evaluation says what the written report says."""

from __future__ import annotations

import re
from html import unescape

from tests.unit.report import sample

from finetune_exe.domain.evaluation import Evaluation
from finetune_exe.report.html.evaluation import evaluation_page


def words_of(evaluation: Evaluation) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", evaluation_page(evaluation).decode())).split())


def test_the_page_says_what_a_comparison_and_the_verdict_rest_on() -> None:
    said = words_of(sample.evaluation())
    assert "NOT READY; failed: answers end by themselves" in said
    assert "MDE: the smallest true difference" in said
    assert "perplexity (lower is better): paired, clustered, log scale; items: 480 in 52 clusters" in said
    assert "-24.1 -26.5 to -21.7 -79.0 (-81.0 to -77.0) <0.001 0.8 improved" in said
    assert "ended by themselves: base 62.0 %, tuned 100.0 %" in said
    assert "of 2 points decided; open: 1" in said
    assert "Made from: plan a1a1a1a1a1a1, dataset b2b2b2b2b2b2, weights c3c3c3c3c3c3" in said
    assert "-0.08 [-0.105, -0.055] <0.001 0.036 worse" in said
    assert said.index("NOT READY") < said.index("Base against tuned")


def test_a_page_without_answers_says_nothing_of_them() -> None:
    assert "ended by themselves:" not in words_of(sample.evaluation().model_copy(update={"generation": None}))


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
