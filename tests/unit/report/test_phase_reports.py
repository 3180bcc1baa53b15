"""Reports of dataset, run, evaluation and diagnosis: golden files, and what they may never hide."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from tests.unit.report import sample
from tests.unit.report.golden import assert_golden

from finetune_exe.domain.dataset import Fertility, MaskProof
from finetune_exe.domain.diagnosis import Diagnosis, Evidence, Finding
from finetune_exe.domain.evaluation import Sample
from finetune_exe.domain.values import Interval
from finetune_exe.report.boxes import display_width
from finetune_exe.report.comparison import explain_verdict
from finetune_exe.report.dataset import render_dataset, render_dataset_markdown
from finetune_exe.report.diagnosis import render_diagnosis, render_diagnosis_markdown
from finetune_exe.report.doctor import render_checkup
from finetune_exe.report.evaluation import render_evaluation, render_evaluation_markdown
from finetune_exe.report.numbers import format_interval, format_p, format_quantity, format_setting
from finetune_exe.report.run import render_run, render_run_markdown

HOSTILE = "\x1b[2J\x1b]0;x\x07<script>alert(1)</script>|`\u202e```\n# heading\r"
REPORTS: dict[str, Callable[[], str]] = {
    "dataset.txt": lambda: render_dataset(sample.dataset()),
    "dataset.md": lambda: render_dataset_markdown(sample.dataset()),
    "run.txt": lambda: render_run(sample.run()),
    "run.md": lambda: render_run_markdown(sample.run()),
    "evaluation.txt": lambda: render_evaluation(sample.evaluation()),
    "evaluation.md": lambda: render_evaluation_markdown(sample.evaluation()),
    "diagnosis.txt": lambda: render_diagnosis(sample.diagnosis()),
    "doctor.txt": lambda: render_checkup(sample.checkup()),
    "diagnosis.md": lambda: render_diagnosis_markdown(sample.diagnosis()),
}


@pytest.mark.parametrize("name", REPORTS)
def test_the_report_is_the_golden_one(name: str) -> None:
    assert_golden(f"report_{name}", REPORTS[name]())


@pytest.mark.parametrize("name", [name for name in REPORTS if name.endswith(".txt")])
def test_it_keeps_within_eighty_columns(name: str) -> None:
    assert max(map(display_width, REPORTS[name]().splitlines())) <= 80


def test_languages_of_a_few_words_are_not_told() -> None:
    dataset = sample.dataset()
    assert dataset.tokens is not None
    found = (("en", 980), ("cs", 19), ("pl", 1), ("de", 21))
    fertility = tuple(Fertility(language=name, num_words=words, num_tokens=2 * words) for name, words in found)
    told = dataset.model_copy(update={"tokens": dataset.tokens.model_copy(update={"fertility": fertility})})
    assert "tokens per word: en 2.00, de 2.00\n" in render_dataset(told)


def test_the_learned_part_of_the_example_is_marked() -> None:
    assert "[[Return the sum of two numbers.<|im_end|>]]" in render_dataset(sample.dataset())


def test_a_long_example_keeps_its_beginning_and_end() -> None:
    report = render_dataset(
        sample.dataset().model_copy(update={"example": (("start " + "x " * 5000, False), ("the end", True))})
    )
    assert "start" in report
    assert "[[the end]]" in report
    assert len(report) < 5000


def test_an_unproven_mask_is_not_passed_over() -> None:
    proof = MaskProof(num_proven=1, num_disagreeing=3, end_of_turn_learned=False, stop_tokens=())
    report = render_dataset(sample.dataset().model_copy(update={"mask_proof": proof}))
    assert "3 rows where they disagree" in report
    assert "NOT every answer" in report


def test_a_run_that_got_worse_says_so() -> None:
    assert "ABOVE" in render_run(sample.run().model_copy(update={"best_validation_loss": 4.0}))
    assert "below" in render_run(sample.run())


def test_a_run_whose_rows_begin_alike_says_what_was_not_computed_again() -> None:
    run = sample.run()
    assert "Shared beginnings" not in render_run(run)
    saved = run.model_copy(update={"shared_tokens": run.padded_tokens // 4})
    assert "Shared beginnings  | 25.0 % of the tokens not computed again" in render_run(saved)


def test_a_prediction_that_missed_is_marked() -> None:
    lines = {line.split("|")[1].strip(): line for line in render_run(sample.run()).splitlines() if line.startswith("|")}
    assert lines["duration"].endswith("| NO     |")
    assert lines["memory"].endswith("| yes    |")


def test_the_verdict_says_why() -> None:
    evaluation = sample.evaluation()
    passing = tuple(check for check in evaluation.readiness if check.passed is not False)
    assert "Verdict: ○ NOT READY; failed: answers end by themselves" in render_evaluation(evaluation)
    ready = render_evaluation(evaluation.model_copy(update={"readiness": passing}))
    assert "Verdict: ● READY: no point failed, and perplexity improved" in ready
    better, *others = evaluation.comparisons
    of_task = {"readiness": passing, "comparisons": tuple(others), "task_comparisons": (better,)}
    assert "no point failed, and perplexity improved" in render_evaluation(evaluation.model_copy(update=of_task))
    unknown = evaluation.model_copy(update={"readiness": passing, "comparisons": evaluation.comparisons[1:]})
    assert "Verdict: ○ CANNOT SAY: no metric improved beyond its interval" in render_evaluation(unknown)
    nothing = evaluation.model_copy(update={"readiness": passing, "comparisons": (), "task_comparisons": ()})
    assert "Verdict: ○ CANNOT SAY: nothing was compared" in render_evaluation(nothing)
    little = evaluation.comparisons[0].model_copy(update={"margin": 1e9})
    unsure = evaluation.model_copy(update={"readiness": passing, "comparisons": (little,)})
    assert "Verdict: ○ CANNOT SAY: no metric improved by more than its margin" in render_evaluation(unsure)
    smaller = "It is smaller than the margin, 1e+09."
    assert explain_verdict(little).endswith(smaller)
    assert smaller not in explain_verdict(evaluation.comparisons[0])


def test_metrics_that_rest_on_the_same_are_named_together() -> None:
    evaluation = sample.evaluation()
    chrf = evaluation.comparisons[1]
    alike = evaluation.model_copy(update={
        "task_comparisons": (chrf.model_copy(update={"metric": "rouge_l"}),), "suites": (),
    })  # fmt: skip
    report = " ".join(render_evaluation(alike).split())
    assert "chrf, rouge_l (higher is better): paired t, clustered; items: 100 in 31 clusters; a loss of 0.01" in report
    assert "exact_match (higher is better): not tested, no spread is seen; items: 1 in 1 cluster; a loss" in report
    assert report.count("counts as harmless") == 3


def test_what_is_open_is_listed_as_such() -> None:
    report = render_evaluation(sample.evaluation())
    assert "[open] other abilities kept:" in report
    assert "no probe was run; to decide it: run one: --suites FOLDER" in " ".join(report.split())
    assert "[FAIL] answers end by themselves" in report


def test_an_empty_diagnosis_claims_no_health() -> None:
    report = render_diagnosis(Diagnosis(subject="x.log", findings=()))
    assert "nothing found" in report
    assert "nothing shows that all is well" in report


def test_a_patch_is_ready_to_type() -> None:
    assert "--set 'data.chat_template=my template.jinja'" in render_diagnosis(sample.diagnosis())


def hostile_reports() -> list[str]:
    """Every report with hostile text wherever text comes from data."""
    drops = tuple(drop.model_copy(update={"first": HOSTILE, "message": HOSTILE}) for drop in sample.dataset().dropped)
    dataset = sample.dataset().model_copy(
        update={"dropped": drops, "example": ((HOSTILE, True),), "format_evidence": (HOSTILE,)}
    )
    answer = Sample(row=0, source=HOSTILE, prompt=HOSTILE, reference=HOSTILE, baseline=HOSTILE, candidate=HOSTILE)
    evaluation = sample.evaluation().model_copy(update={"samples": (answer,), "cluster_by": HOSTILE})
    finding = Finding(
        label="x", confidence=1.0, title=HOSTILE, evidence=(Evidence(line=1, text=HOSTILE),), cause="c", fix=HOSTILE
    )
    diagnosis = Diagnosis(subject=HOSTILE, findings=(finding,))
    return [
        render_dataset(dataset), render_dataset_markdown(dataset), render_evaluation(evaluation),
        render_evaluation_markdown(evaluation), render_diagnosis(diagnosis), render_diagnosis_markdown(diagnosis),
        render_run(sample.run().model_copy(update={"run_name": HOSTILE})),
    ]  # fmt: skip


@pytest.mark.parametrize("report", hostile_reports())
def test_hostile_data_is_inert(report: str) -> None:
    assert not set(report) & {"\x1b", "\r", "\x07", "\u202e"}


def test_markdown_from_data_is_no_markup() -> None:
    """A Markdown parser finds no HTML and no heading that is not ours."""
    from markdown_it import MarkdownIt

    for text in hostile_reports()[1:6:2]:
        tokens = MarkdownIt("commonmark").enable("table").parse(text)
        assert not [token for token in tokens if token.type == "html_block"]
        inlines = [token for token in tokens if token.type == "inline"]
        assert not [child for token in inlines for child in token.children or [] if child.content.startswith("<script")
                    and child.type == "html_inline"]  # fmt: skip
        headings = [inline.content for opening, inline in pairwise(tokens) if opening.type == "heading_open"]
        assert headings
        assert not [heading for heading in headings if heading.startswith("heading")]


def test_a_fence_in_the_data_cannot_end_the_block_it_stands_in() -> None:
    text = render_dataset_markdown(sample.dataset().model_copy(update={"example": (("```\n# out", False),)}))
    assert "````text\n```\n# out\n````" in text
    hidden = sample.dataset().model_copy(update={"example": (("``\x1b[0m`\n# out", False),)})
    assert "````text\n```\n# out\n````" in render_dataset_markdown(hidden)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (False, "no"),
        (None, "off"),
        (2e-4, "2e-4"),
        (16, "16"),
        (("a", "b"), "a, b"),
        ((), "none"),
        ("x", "x"),
    ],
)
def test_settings_are_written_as_people_say_them(value: object, text: str) -> None:
    assert format_setting(value) == text  # type: ignore[arg-type]


def test_numbers_are_written_with_their_units() -> None:
    assert format_quantity(3 * 2**30, "bytes") == "3.00 GiB"
    assert format_quantity(75, "seconds") == "1 min 15 s"
    assert format_quantity(0.5, "nats") == "0.5 nats"
    shown = format_interval(Interval(low=10, mid=20, high=30), "tokens_per_second")
    assert shown.replace("\u00a0", " ") == "20 tokens/s (10 to 30)"
    assert (format_p(None), format_p(0.0002), format_p(0.04)) == ("n/a", "<0.001", "0.040")


def test_a_rambling_answer_does_not_fill_the_report() -> None:
    rambling = "\n".join(["the function is called with a single argument, which is the bill " * 4] * 30)
    answer = Sample(row=0, source="a", prompt="p", reference="r", baseline=rambling, candidate="short")
    text = render_evaluation(sample.evaluation().model_copy(update={"samples": (answer,)}))
    shown = text.split("ANSWERS SIDE BY SIDE")[1].split("READINESS")[0]
    assert len(shown.splitlines()) < 40
    assert "more lines]" in shown.replace("\n", " ")
