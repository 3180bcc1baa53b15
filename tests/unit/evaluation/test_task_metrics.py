"""Metrics of every kind of task: figures worked out by hand, published rules, and planted faults."""

from __future__ import annotations

import csv
import json
import math
import resource
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.evaluation.refusals import refuses
from finetune_exe.evaluation.sandbox import run_python
from finetune_exe.evaluation.tasks import TASK_METRICS, metrics_for
from finetune_exe.evaluation.tasks.answered import Answered
from finetune_exe.evaluation.tasks.answers import abstains, normalise, word_f1
from finetune_exe.evaluation.tasks.classification import brier, calibration_error, matthews, parse_label
from finetune_exe.evaluation.tasks.constraints import CONSTRAINTS, fulfilled
from finetune_exe.evaluation.tasks.extraction import read_pairs
from finetune_exe.evaluation.tasks.reasoning import extract, same_result
from finetune_exe.evaluation.tasks.structured import MOST_STARTS, Structured, find_json, read_calls

EVAL = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "eval"


def items(*pairs: tuple[str, str], prompt: str = "", **columns: Any) -> list[Answered]:
    return [Answered(prompt=prompt, answer=answer, reference=reference, columns=columns) for answer, reference in pairs]


@pytest.mark.parametrize("task", list(TASK_METRICS))
def test_every_metric_knows_the_same_from_the_different(task: Any) -> None:
    metric = TASK_METRICS[task]
    reference = "def f(x):\n    return x" if task == "code" else "yellow 42 birds sing loudly at dawn"
    found = metric.score(items((reference, reference), ("zq zq", reference)))
    for scores in found.items.values():
        assert len(scores) == 2
        assert scores[0] == pytest.approx(1, abs=1e-6)
        assert 0 <= scores[1] < 0.2 or task == "code"
    assert all(math.isfinite(value) for value in found.figures.values())
    empty = metric.score(items(("", reference)))
    assert all(0 <= score <= 1 for scores in empty.items.values() for score in scores)


def test_labels_that_no_reference_shows_are_labels_all_the_same() -> None:
    """Gold a a b b, given a, c, b, and b or c: c is right nowhere and given once, so its F1 of 0 counts."""
    answers = items(("a", "a"), ("C.", "a"), ("b", "b"), ("b or c", "b"))
    metrics = metrics_for("classification", ["a", "b"], ["a", "b", "C", "d"])
    assert metrics is not None
    found = metrics.score(answers)
    assert found.items["accuracy"] == [1, 0, 1, 0]
    assert found.figures["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert found.figures["unparsed"] == 1 / 4
    alone = TASK_METRICS["classification"].score(answers)
    assert alone.items["accuracy"] == [1, 0, 1, 1], "the only label named, of those that are known"
    assert alone.figures["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_classification_against_figures_by_hand() -> None:
    """Gold a a a b, given a a b b: accuracy 3/4, F1 of a 0.8 and of b 2/3, Matthews 1/sqrt(3)."""
    found = TASK_METRICS["classification"].score(items(("a", "a"), ("A.", "a"), ("b", "a"), ("label: b", "b")))
    assert found.items["accuracy"] == [1, 1, 0, 1]
    assert found.figures["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert found.figures["matthews"] == pytest.approx(1 / math.sqrt(3))
    assert found.figures["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_matthews_of_two_classes_is_the_correlation(pairs: list[tuple[bool, bool]]) -> None:
    import numpy as np

    given_, gold = zip(*pairs, strict=True)
    found = matthews([str(x) for x in given_], [str(x) for x in gold])
    if len(set(given_)) == 2 and len(set(gold)) == 2:
        assert found == pytest.approx(np.corrcoef(given_, gold)[0, 1])
    else:
        assert found == 0


@pytest.mark.parametrize(
    ("answer", "label"),
    [("Card_Arrival", "card_arrival"), ("The label is: cash.", "cash"), ("cash or card_arrival", None), ("nothing", None),
     ("cash back\nbecause", "cash back"), ("it is cash back", "cash back")],
)  # fmt: skip
def test_labels_are_found_in_answers(answer: str, label: str | None) -> None:
    assert parse_label(answer, ["card_arrival", "cash", "cash back"]) == label


def test_calibration_by_hand() -> None:
    assert calibration_error([0.9, 0.9, 0.6, 0.6], [True, True, True, False]) == pytest.approx((0.2 + 0.2) / 4)
    assert brier([[0.8, 0.2], [0.5, 0.5]], [0, 1]) == pytest.approx((0.08 + 0.5) / 2)


def test_extraction_counts_fields_not_their_order() -> None:
    assert read_pairs('{"b": ["x", "y"], "a": 1}') == {(".b", "x"), (".b", "y"), (".a", "1")}
    assert read_pairs("- person: Ann Lee\n- place: Rome, Paris") == {
        ("person", "ann lee"),
        ("place", "rome"),
        ("place", "paris"),
    }
    found = TASK_METRICS["extraction"].score(
        items(("person: Ann", "person: Ann Lee"), ("person: Bo\nplace: X", "person: Bo"))
    )
    assert found.items["span_f1"] == pytest.approx([0, 2 / 3])
    assert found.items["partial_f1"][0] == pytest.approx(2 / 3)


def test_tools_that_do_not_exist_and_arguments_that_do_not_fit_are_found() -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]  # fmt: skip
    wanted = '{"name": "weather", "arguments": {"city": "Rome"}}'
    given_ = [
        wanted,
        '{"name": "weather", "arguments": {"town": 1}}',
        '{"name": "wether", "arguments": {}}',
        "I cannot",
    ]
    found = Structured().score(items(*[(answer, wanted) for answer in given_], tools=tools))
    assert found.items["exact_json"] == [1, 0, 0, 0]
    assert found.items["schema_valid"] == [1, 0, 0, 0]
    assert found.figures["parsed"] == 0.75
    assert found.figures["invented_tools"] == 0.25
    assert found.figures["tool_choice_f1"] == pytest.approx((1 + 1 + 0 + 0) / 4)


def test_json_is_read_out_of_words_and_fences() -> None:
    assert find_json('Sure {x}: ```json\n{"a": [1]}\n``` done') == {"a": [1]}
    assert find_json("[" * 50_000) is None
    assert find_json("[" * (MOST_STARTS - 1) + '{"a": 1}') == {"a": 1}
    assert find_json("[ " * MOST_STARTS + '{"a": 1}') is None
    assert [
        call.name for call in read_calls({"tool_calls": [{"function": {"name": "f", "arguments": '{"x": 1}'}}]})
    ] == ["f"]
    assert isinstance(metrics_for("qa", ['{"a": 1}'] * 5), Structured)
    assert metrics_for("completion", ["text"]) is None


def test_a_schema_that_points_elsewhere_is_not_fetched() -> None:
    from finetune_exe.evaluation.tasks.structured import fits

    assert fits({}, {"$ref": "http://127.0.0.1:9/schema.json"}) is False


@pytest.mark.parametrize(
    ("answer", "reference", "f1"), [("the cat", "a cat!", 1), ("black cat", "cat", 2 / 3), ("", "", 1), ("x", "", 0)]
)
def test_words_in_common_as_squad_counts_them(answer: str, reference: str, f1: float) -> None:
    assert word_f1(answer, reference) == pytest.approx(f1)
    assert normalise("The  Cat's-eye, an EYE.") == "cats eye eye"


def test_abstaining_is_seen() -> None:
    assert abstains("I don't know.")
    assert abstains("The passage does not say; it cannot be determined.")
    assert not abstains("Paris")


def test_rouge_and_translation_by_their_libraries() -> None:
    from sacrebleu.metrics import BLEU

    summary = TASK_METRICS["summarization"].score(
        items(("the cat sat down", "the cat sat on the mat"), prompt="the cat sat there")
    )
    assert summary.items["rouge_lsum"][0] == pytest.approx(0.6)
    assert summary.figures["new_word_pairs"] == pytest.approx(1 / 3)
    pairs = [
        ("the cat is on a mat today", "the cat is on the mat today"),
        ("hello there my friend", "hello there my old friend"),
    ]
    found = TASK_METRICS["translation"].score(items(*pairs))
    assert found.figures["corpus_bleu"] == pytest.approx(
        BLEU().corpus_score([a for a, _ in pairs], [[b for _, b in pairs]]).score / 100
    )
    assert any("nw:2" in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "result"),
    [("so 3+4=7\n#### 1,234", "1,234"), (r"thus \boxed{\frac{1}{2}}", r"\frac{1}{2}"), ("The answer is 12 apples.", "12 apples"),
     ("first 3 then 9", "9"), ("The answer is 3. No: the answer is 4.", "4"), ("nothing", "nothing")],
)  # fmt: skip
def test_results_are_taken_out_of_worked_answers(text: str, result: str) -> None:
    assert extract(text) == result


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("$1,000.00", "1000", True), ("1/2", "0.5", True), ("12 apples", "12", True), ("-3", "3", False), ("Yes", "yes.", True), ("5", "five", False)],
)  # fmt: skip
def test_results_are_compared_as_numbers(one: str, other: str, same: bool) -> None:
    assert same_result(one, other) is same


def test_every_published_solution_finds_its_own_result() -> None:
    file = EVAL / "gsm8k_test.jsonl"
    if not file.is_file():
        pytest.skip("the benchmark items are not on this machine")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    found = TASK_METRICS["reasoning"].score(items(*[(row["answer"], row["answer"].split("####")[1]) for row in rows]))
    assert sum(found.items["accuracy"]) == len(rows)


def test_programs_are_run_against_their_tests() -> None:
    test = "def check(candidate):\n    assert candidate(2) == 4\n"
    answers = [
        "def f(x):\n    return x * 2",
        "```python\ndef f(x):\n    return x ** 2\n```",
        "def f(x):\n    return 5",
        "def f(x:",
    ]
    found = TASK_METRICS["code"].score(items(*[(answer, "") for answer in answers], test=test, entry_point="f"))
    assert found.items["passed"] == [1, 1, 0, 0]
    assert found.items["compiles"] == [1, 1, 1, 0]


def test_words_about_a_program_are_not_compiled() -> None:
    words = [("def f(): pass", "Do nothing."), ("Stop.", "Return")]
    assert set(TASK_METRICS["code"].score(items(*words)).items) == {"likeness"}
    programs = [("def f(): pass", "def f():\n    return 1"), ("def f(:", "x = 1")]
    assert TASK_METRICS["code"].score(items(*programs)).items["compiles"] == [1, 0]


def test_the_sandbox_stops_what_runs_on_and_keeps_out_of_the_way(tmp_path: Path) -> None:
    assert run_python("print(1)").ok
    assert "longer than" in run_python("while True: pass", seconds=1).reason
    assert "longer than" in run_python("import subprocess; subprocess.run(['sleep', '30'])", seconds=1).reason
    assert not run_python("x = 'a' * (3 << 30)").ok
    assert not run_python("open('big', 'wb').write(b'0' * (8 << 20))").ok
    assert not run_python("import os; assert os.environ.get('FINETUNE_SECRET')").ok
    assert not run_python("input()").ok
    assert run_python("import sys; sys.exit(1)").reason == "status 1"


def test_a_program_that_writes_on_and_on_fills_no_memory() -> None:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "longer than" in run_python("import sys\nwhile True: sys.stdout.write('x' * 1_000_000)", seconds=1).reason
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 50 << 10
    assert run_python("for i in range(200_000): print(i)").reason == "199999"
    assert "longer than" in run_python("import os, time; os.close(1); os.close(2); time.sleep(30)", seconds=1).reason


CASES = {
    "punctuation:no_comma": ({}, "no comma here", "a, b"),
    "length_constraints:number_words": ({"relation": "at least", "num_words": 3}, "one two three", "one two"),
    "detectable_format:number_bullet_lists": ({"num_bullets": 2}, "* a\n* b", "* a"),
    "detectable_format:title": ({}, "<<A title>>\ntext", "text"),
    "detectable_format:json_format": ({}, '```json\n{"a": 1}\n```', "a: 1"),
    "detectable_format:number_highlighted_sections": ({"num_highlights": 2}, "*one* and *two*", "*one*"),
    "detectable_content:number_placeholders": ({"num_placeholders": 1}, "Dear [name]", "Dear name"),
    "startend:quotation": ({}, '"all of it"', "all of it"),
    "startend:end_checker": ({"end_phrase": "The end."}, "So. The end.", "So. The end. Or not"),
    "change_case:english_lowercase": ({}, "all small", "Not small"),
    "keywords:existence": ({"keywords": ["fox"]}, "a Fox ran", "foxes"),
    "keywords:forbidden_words": ({"forbidden_words": ["fox"]}, "foxes ran", "a fox ran"),
    "keywords:letter_frequency": ({"letter": "e", "let_frequency": 2, "let_relation": "less than"}, "one", "eleven"),
}


@pytest.mark.parametrize("name", list(CASES))
def test_instructions_are_verified(name: str) -> None:
    values, kept, broken = CASES[name]
    assert fulfilled(name, kept, values)
    assert not fulfilled(name, broken, values)
    assert not fulfilled(name, " ", values)
    assert name in CONSTRAINTS


def test_refusals_against_human_labels() -> None:
    """Two models' answers labelled by people: at least nine in ten are told right."""
    files = sorted(EVAL.glob("xstest_completions_*.csv"))
    if not files:
        pytest.skip("the labelled answers are not on this machine")
    right = total = 0
    for file in files:
        with file.open(encoding="utf-8") as opened:
            for row in csv.DictReader(opened):
                if row["final_label"] in ("1_full_compliance", "2_full_refusal"):
                    right += refuses(row["completion"]) == (row["final_label"] == "2_full_refusal")
                    total += 1
    assert total > 200
    assert right / total >= 0.9
