"""Lines of results: samples of a task together, and what cannot be used named by its line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tests.unit.evaluation.result_rows import write

from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.compare import Question, compare_results
from finetune_exe.evaluation.result_files import Keys, read_results


def test_several_samples_of_a_task_are_its_pass_at_1(tmp_path: Path) -> None:
    passed = {"HumanEval/0": [True, False, False, True], "HumanEval/1": [False], "HumanEval/2": [True, True, False]}
    rows = [
        {"task_id": task, "completion": f"  return {i}", "result": "passed" if good else "failed: ", "passed": good}
        for task, samples in passed.items() for i, good in enumerate(samples)
    ]  # fmt: skip
    read = read_results(write(tmp_path / "a.jsonl", rows), Keys())
    assert {task: result.score for task, result in read.items()} == pytest.approx(
        {"HumanEval/0": 2 / 4, "HumanEval/1": 0, "HumanEval/2": 2 / 3}
    )
    (tmp_path / "a.csv").write_text("task_id,passed\n" + "".join(f"{r['task_id']},{r['passed']}\n" for r in rows))
    cells = read_results(tmp_path / "a.csv", Keys())
    assert {task: result.score for task, result in cells.items()} == {task: r.score for task, r in read.items()}
    found = compare_results("a", "b", read, read, Question())
    assert (found.comparison.n, found.comparison.clusters) == (3, 3)


def test_one_of_several_samples_must_pass(tmp_path: Path) -> None:
    """Of 4 samples of which 1 passes, 2 hold it in 3 of 6 draws; of 4 of which 2 pass, none in 1 of 6."""
    passed = {"t0": [True, False, False, False], "t1": [False] * 4, "t2": [True, True, False, False]}
    rows = [{"task_id": task, "passed": good} for task, samples in passed.items() for good in samples]
    path = write(tmp_path / "a.jsonl", rows)
    read = read_results(path, Keys(pass_at=2))
    assert [result.score for result in read.values()] == pytest.approx([1 / 2, 0, 5 / 6])
    assert [result.score for result in read_results(path, Keys(pass_at=1)).values()] == [0.25, 0, 0.5]
    for rows_, why in (
        (rows, "task 't0' has 4 samples, fewer than --pass-at 5"),
        ([{"item": 1, "score": 1}], "no sample of a task"),
    ):
        with pytest.raises(FineTuneError) as caught:
            read_results(write(tmp_path / "b.jsonl", rows_), Keys(pass_at=5))
        assert why in caught.value.why


@pytest.mark.parametrize("again", [{"task_id": "t1", "passed": 0.5}, {"task_id": "t1", "passed": 1}])
def test_what_only_looks_like_samples_stands_there_twice(tmp_path: Path, again: dict[str, Any]) -> None:
    rows = [{"task_id": "t1", "passed": True}, {"task_id": "t2", "passed": True}, again]
    with pytest.raises(FineTuneError, match="'t1' stands at line 1 already"):
        read_results(write(tmp_path / "a", rows), Keys())


@pytest.mark.parametrize(
    ("lines", "code", "words"),
    [
        (['{"item": 1, "score": NaN}'], "E04", "line 1: 'score' is nan, not a finite number"),
        (['{"item": 1, "score": 1e999}'], "E04", "finite"),
        (['{"item": 1, "score": 1, "f1": 1}', '{"item": 2, "f1": 1}'], "E04", "line 2: it has no 'score'"),
        (['{"item": 1, "metrics": 7}'], "E04", "no 'score'"),
        (['{"item": 1}'], "E04", "no 'score'"),
        (['{"item": 1, "score": null}'], "E04", "null"),
        (['{"item": 1, "score": "0.5"}'], "E04", "not a number"),
        (['{"item": 1, "score": 1}', '{"item": "1", "score": 0}'], "E04", "stands at line 1 already"),
        (['{"item": 1, "score": 1'], "E04", "no JSON"),
        (["[1]"], "E04", "it is [1], not an object"),
        (['{"item": [1], "score": 1}'], "E04", "neither a text"),
        (['{"itme": 1, "score": 1}'], "E04", "it has 'itme'"),
        (["[" * 100_000], "E04", "nested"),
        ([""], "E03", "no result"),
    ],
)
def test_lines_that_cannot_be_used_are_named(tmp_path: Path, lines: list[str], code: str, words: str) -> None:
    with pytest.raises(FineTuneError) as refused:
        read_results(write(tmp_path / "a", lines), Keys())
    assert refused.value.code == code
    assert words in str(refused.value)


def test_a_field_of_another_metric_may_be_no_number_and_never_stands_in_for_a_score(tmp_path: Path) -> None:
    rows = [{"item": i, "score": i / 8, "recall": math.nan, "f1": 1.0} for i in range(8)]
    read = read_results(write(tmp_path / "a", rows), Keys())
    assert [result.score for result in read.values()] == [i / 8 for i in range(8)]
    del rows[3]["score"]
    with pytest.raises(FineTuneError) as caught:
        read_results(write(tmp_path / "b", rows), Keys())
    assert caught.value.why.startswith("line 4: it has no 'score'; numbers stand in 'recall', 'f1': --score KEY")


def test_all_bad_lines_are_counted(tmp_path: Path) -> None:
    with pytest.raises(FineTuneError, match="7 lines of the results"):
        read_results(write(tmp_path / "a", ["{"] * 7), Keys())
