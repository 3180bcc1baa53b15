"""What other evaluation tools write for each item is read by their names, and what is damaged in it is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.evaluation.result_rows import RIGHT, tool_files, write

from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.compare import Question, compare_results
from finetune_exe.evaluation.result_files import Keys, read_results


def test_samples_of_a_harness_are_sliced_by_their_documents_and_parted_by_filter(tmp_path: Path) -> None:
    rows = [
        {"doc_id": i, "doc": {"subject": f"s{i % 3}"}, "target": "4", "filter": name, "metrics": ["exact_match"],
         "filtered_resps": [str(i)], "exact_match": float(i % 2)}
        for i in range(12) for name in ("strict", "loose")
    ]  # fmt: skip
    read = read_results(write(tmp_path / "a", rows), Keys())
    assert read["loose/7"].score == 1.0
    assert read["loose/7"].cluster == "7"
    assert (read["loose/7"].texts["answer"], read["loose/7"].texts["reference"]) == ("7", "4")
    found = compare_results("a", "b", read, read, Question(slice_key="subject"))
    assert [part.name for part in found.suites] == ["strict", "loose"]
    assert [part.name for part in found.slices] == ["s0", "s1", "s2"]
    assert found.comparison.clusters == 12
    assert any("'exact_match'" in note for note in found.notes)


def test_solutions_of_evalplus_are_judged_by_the_harder_tests(tmp_path: Path) -> None:
    solutions = {
        "HumanEval/0": [{"base_status": "pass", "plus_status": "fail"}, {"base_status": "pass", "plus_status": "pass"}],
        "HumanEval/1": [{"base_status": "pass", "plus_status": None}],
    }
    path = tmp_path / "eval_results.json"
    path.write_text(json.dumps({"date": "today", "hash": "x", "eval": solutions}))
    assert [result.score for result in read_results(path, Keys()).values()] == [0.5, 1.0]


def event(number: int, sample: str, kind: str, **data: Any) -> dict[str, Any]:
    return {"run_id": "2311", "event_id": number, "sample_id": sample, "type": kind, "data": data, "created_by": "",
            "created_at": "2026-11-01 12:00:00+00:00"}  # fmt: skip


def test_a_log_of_openai_evals_is_scored_by_its_matches(tmp_path: Path) -> None:
    right = [True, False, True, True]
    log: list[Any] = [{"spec": {"completion_fns": ["m"], "eval_name": "sums.dev.v0", "run_id": "2311"}}]
    for i, correct in enumerate(right):
        said, asked = (
            str(i + correct),
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"{i}+1"}],
        )
        log.append(event(2 * i, f"sums.dev.{i}", "sampling", prompt=asked, sampled=[said]))
        log.append(event(2 * i + 1, f"sums.dev.{i}", "match", correct=correct, expected=str(i + 1), picked=said))
    log += [event(8, "sums.dev.4", "error", type="Timeout", message="none"), {"final_report": {"accuracy": 0.75}}]
    read = read_results(write(tmp_path / "a", log), Keys())
    assert [result.score for result in read.values()] == [float(correct) for correct in right]
    assert read["sums.dev.2"].texts == {"prompt": "2+1", "answer": "3", "reference": "3"}
    assert sum(result.score or 0 for result in read.values()) / len(read) == 0.75


def test_a_log_of_openai_evals_without_matches_is_scored_by_what_was_measured(tmp_path: Path) -> None:
    log = [event(i, f"s.{i // 2}", "metrics", accuracy=i % 2, f1_score=0.25 * i) for i in range(8)]
    read = read_results(write(tmp_path / "a", log), Keys())
    assert {result.score_name for result in read.values()} == {"accuracy"}
    assert [result.score for result in read.values()] == [0.5] * 4
    named = read_results(tmp_path / "a", Keys(score="f1_score"))
    assert [result.score for result in named.values()] == [0.125, 0.625, 1.125, 1.625]


@pytest.mark.parametrize("tool", list(tool_files()))
@pytest.mark.parametrize("indent", [None, 2])
def test_what_other_tools_write_is_read(tool: str, indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(tool_files()[tool], indent=indent))
    read = read_results(path, Keys())
    assert [result.score for result in read.values()] == [float(right) for right in RIGHT]
    texts = [result.texts for result in read.values()]
    assert [text["answer"] for text in texts] == [str(i + right) for i, right in enumerate(RIGHT)]
    assert tool == "helm" or [text["prompt"] for text in texts] == [f"{i}+1" for i in range(6)]
    compared = compare_results("a", "b", read, read, Question()).comparison
    assert (compared.n, compared.clusters, compared.test) == (6, 6, "McNemar, exact")


def test_epochs_of_a_sample_and_prompts_of_a_test_belong_together(tmp_path: Path) -> None:
    files = tool_files()
    [samples, rows] = files["inspect"]["samples"], files["promptfoo"]["results"]["results"]
    samples += [{**sample, "epoch": 2} for sample in samples]
    rows += [{**row, "promptIdx": 1, "prompt": {"raw": "other"}} for row in rows]
    for tool in ("inspect", "promptfoo"):
        (tmp_path / tool).write_text(json.dumps(files[tool]))
        read = read_results(tmp_path / tool, Keys())
        found = compare_results("a", "b", read, read, Question()).comparison
        assert (found.n, found.clusters) == (12, 6)
    lines = write(tmp_path / "lines.jsonl", rows)
    assert read_results(lines, Keys()).keys() == read.keys()


def test_grades_and_parts_of_a_scorer_of_inspect(tmp_path: Path) -> None:
    values = {
        "graded": ["C", "P", "I", "N"],
        "number": [1, 0.25, True, 0],
        "parts": [{"fact": i, "form": "C"} for i in range(4)],
        "words": ["yes", "False", "0.5", "c"],
    }
    samples = [
        {"id": "s" + str(i), "epoch": 1, "input": "q", "target": ["a", "b"], "scores": {k: {"value": v[i]} for k, v in values.items()}}
        for i in range(4)
    ]  # fmt: skip
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"samples": samples}))
    for name, expected in (
        ("score", [1.0, 0.5, 0.0, 0.0]), ("number", [1.0, 0.25, 1.0, 0.0]), ("parts/fact", [0.0, 1.0, 2.0, 3.0]),
        ("words", [1.0, 0.0, 0.5, 1.0]),
    ):  # fmt: skip
        assert [result.score for result in read_results(path, Keys(score=name)).values()] == expected
    samples[1]["scores"] = None
    path.write_text(json.dumps({"samples": samples}))
    with pytest.raises(FineTuneError, match="1 line of the results") as caught:
        read_results(path, Keys())
    assert "no 'graded'" in caught.value.why


@pytest.mark.parametrize("tool", list(tool_files()))
def test_rows_of_other_tools_that_are_damaged_are_named_by_line(tool: str, tmp_path: Path) -> None:
    document = tool_files()[tool]
    rows = document if tool == "helm" else document["samples"] if tool == "inspect" else (
        document["testCases"] if tool == "deepeval" else document["results"]["results"]
    )  # fmt: skip
    rows[2].update(
        {
            key: 7
            for key in rows[2]
            if key not in ("id", "epoch", "name", "testIdx", "promptIdx", "instance_id", "score")
        }
    )
    rows[2]["score"] = "junk"
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    with pytest.raises(FineTuneError, match="1 line of the results") as caught:
        read_results(path, Keys())
    assert "line 3" in caught.value.why


def test_two_prompts_or_providers_of_one_output_of_promptfoo_are_compared(tmp_path: Path) -> None:
    """Two providers of two prompts make four columns; every test was repeated once."""
    columns = [("base", "terse"), ("base", "long"), ("tuned", "terse"), ("tuned", "long")]
    rows = [
        {"testIdx": test, "promptIdx": place, "provider": {"id": f"file://{name}.py", "label": name},
         "prompt": {"raw": label, "label": label}, "vars": {"q": test % 4}, "score": place, "success": True}
        for test in range(8) for place, (name, label) in enumerate(columns)
    ]  # fmt: skip
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"results": {"version": 3, "results": rows, "prompts": [{"raw": "x"}]}}))
    base, tuned, terse, long = (
        read_results(path, Keys(), only={key: value})
        for key, value in (("provider", "base"), ("provider", "tuned"), ("prompt_label", "terse"), ("promptIdx", "3"))
    )
    found = compare_results("a", "b", base, tuned, Question()).comparison
    assert (found.n, found.clusters, found.difference) == (16, 4, 2.0)
    short = compare_results("a", "b", terse, long, Question()).comparison
    assert (short.n, short.difference) == (8, 3.0)
    assert {*read_results(path, Keys())} == {f"{test}/{place}" for test in range(8) for place in range(4)}
    with pytest.raises(FineTuneError) as caught:
        read_results(path, Keys(), only={"provider": "other"})
    assert caught.value.code == "E03"
    assert "base (16), tuned (16)" in caught.value.why
    with pytest.raises(FineTuneError) as caught:
        read_results(path, Keys(), only={"model": "base"})
    assert "no row has the field 'model'" in caught.value.why


def test_statistics_of_helm_are_put_together_by_answer(tmp_path: Path) -> None:
    def stats(instance: str, wording: dict[str, Any] | None, **means: float | None) -> dict[str, Any]:
        found = [
            {"name": {"name": name, "split": "test", **({"perturbation": wording} if wording else {})}, "count": int(mean is not None),
             "sum": mean or 0, **({} if mean is None else {"min": mean, "max": mean, "mean": mean})}
            for name, mean in means.items()
        ]  # fmt: skip
        asked = {"perturbation": wording} if wording else {}
        return {"instance_id": instance, **asked, "train_trial_index": 0, "stats": found}

    typos = {"name": "misspellings", "robustness": True, "fairness": False, "computed_on": "perturbed", "prob": 0.1}
    more = {**typos, "prob": 0.5}
    rows = [stats(f"id{i}", wording, exact_match=i % 2) for i in range(4) for wording in (None, typos, more)]
    rows += [stats(f"id{i}", None, num_output_tokens=i, logprob=None) for i in range(4)]
    path = tmp_path / "per_instance_stats.json"
    path.write_text(json.dumps(rows, indent=2))
    read = read_results(path, Keys())
    assert [read[f"id{i}/0"].score for i in range(4)] == [0, 1, 0, 1]
    assert read["id1/misspellings prob=0.5/0"].score == 1
    assert {result.cluster for result in read.values()} == {"id0", "id1", "id2", "id3"}
    assert read["id3/0"].other["num_output_tokens"] == 3
    found = compare_results("a", "b", read, read, Question())
    assert [part.name for part in found.suites] == ["original", "misspellings prob=0.1", "misspellings prob=0.5"]
    shown = [
        {"instance_id": f"id{i}", "perturbation": wording, "train_trial_index": 0, "predicted_text": "x", "stats": {"exact_match": 1.0}}
        for i in range(4) for wording in (None, typos)
    ]  # fmt: skip
    path.write_text(json.dumps(shown))
    assert {*read_results(path, Keys())} < {*read}


def test_numbers_and_columns_that_are_none_end_in_no_traceback(tmp_path: Path) -> None:
    log = [event(i, f"s{i}", "match", correct=True, tokens=10**400 if i else 1) for i in range(3)]
    assert [result.score for result in read_results(write(tmp_path / "log", log), Keys()).values()] == [1.0] * 3
    rows = tool_files()["promptfoo"]["results"]["results"]
    rows[0] |= {"failureReason": 2, "score": 0, "error": "timeout"}
    with pytest.raises(FineTuneError, match="1 line of the results"):
        read_results(write(tmp_path / "failed", rows), Keys())
    rows[0]["failureReason"] = 1
    rows[1]["promptIdx"] = {"name": None}
    read = read_results(write(tmp_path / "rows", rows), Keys(), only={"provider": "m"})
    assert len(read) == len(RIGHT)


def olmes(number: int, right: bool) -> dict[str, Any]:
    """A row of a multiple-choice task, whose first metric is the number of the choice."""
    return {
        "doc_id": number, "native_id": f"Mercury_{number}", "label": 2, "task_hash": "a0", "model_hash": "9d",
        "metrics": {"predicted_index_raw": 2 if right else 0, "predicted_index_per_char": 2, "correct_choice": 2,
                    "acc_raw": int(right), "acc_per_char": 1, "no_answer": 0},
        "model_output": [{"sum_logits": -9.0, "num_tokens": 5, "is_greedy": False} for _ in range(4)],
    }  # fmt: skip


def test_predictions_of_olmes_are_scored_by_an_accuracy_and_not_by_the_number_of_a_choice(tmp_path: Path) -> None:
    path = write(tmp_path / "task-000-arc-predictions.jsonl", [olmes(i, right) for i, right in enumerate(RIGHT)])
    read = read_results(path, Keys())
    assert [result.score for result in read.values()] == [float(right) for right in RIGHT]
    assert {(result.score_name, result.texts["reference"]) for result in read.values()} == {("acc_raw", "2")}
    assert {result.score for result in read_results(path, Keys(score="acc_per_char")).values()} == {1.0}
    assert "Mercury_3" in read_results(path, Keys(item="native_id"))


def test_a_table_of_ragas_is_read_by_its_question(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("user_input,response,reference,faithfulness\n1+1,2,2,0.5\n1+2,4,3,0.25\n")
    read = read_results(path, Keys(score="faithfulness"))
    assert {item: result.score for item, result in read.items()} == {"1+1": 0.5, "1+2": 0.25}
    assert read["1+2"].texts == {"prompt": "1+2", "answer": "4", "reference": "3"}
    with pytest.raises(FineTuneError) as caught:
        read_results(path, Keys())
    assert "numbers stand in 'faithfulness': --score KEY; its texts are compared by --metric chrf" in caught.value.why


def test_details_of_lighteval_and_other_parquet_files_are_read(tmp_path: Path) -> None:
    import duckdb

    details = [
        {"doc": {"id": str(i), "query": f"{i}+1", "choices": ["no", str(i + 1)], "gold_index": [1], "specific": None},
         "model_response": {"text": [str(i + right)], "logprobs": [0.5]}, "metric": {"em": float(right), "acc": 1.0}}
        for i, right in enumerate(RIGHT)
    ]  # fmt: skip
    table = [{"item": i, "score": i / 10, "when": "2026-11-27"} for i in range(5)]
    for name, rows in (("details", details), ("table", table)):
        source = tmp_path / f"{name}.json"
        source.write_text(json.dumps(rows))
        columns = 'item, score::DECIMAL(4, 2) AS score, "when"::DATE AS "when"' if name == "table" else "*"
        duckdb.sql(f"COPY (SELECT {columns} FROM read_json('{source}')) TO '{tmp_path / name}' (FORMAT parquet)")  # noqa: S608
    read = read_results(tmp_path / "details", Keys())
    assert [result.score for result in read.values()] == [float(right) for right in RIGHT]
    assert read["3"].texts == {"prompt": "3+1", "reference": "4", "answer": "4"}
    assert [result.score for result in read_results(tmp_path / "details", Keys(score="acc")).values()] == [1.0] * 6
    assert [result.score for result in read_results(tmp_path / "table", Keys()).values()] == [0.0, 0.1, 0.2, 0.3, 0.4]
    (tmp_path / "damaged").write_bytes((tmp_path / "table").read_bytes()[:60])
    with pytest.raises(FineTuneError, match="the Parquet file is damaged"):
        read_results(tmp_path / "damaged", Keys())


def test_conversations_of_deepeval_and_its_latest_run_are_read(tmp_path: Path) -> None:
    talks = [
        {"name": f"conversational_test_case_{i}", "scenario": f"buys {i}", "expectedOutcome": "sold", "success": right,
         "metadata": {"shop": f"s{i % 2}"}, "order": i,
         "turns": [{"role": "user", "content": "hi", "order": 0}, {"role": "assistant", "content": f"bye {i}", "order": 1}],
         "metricsData": [{"name": "Completeness", "success": right, "score": float(right), "flaky": False}]}
        for i, right in enumerate(RIGHT)
    ]  # fmt: skip
    path = tmp_path / ".latest_test_run.json"
    path.write_text(
        json.dumps({"testRunData": {"testCases": [], "conversationalTestCases": talks, "metricsScores": []}})
    )
    read = read_results(path, Keys())
    assert [result.score for result in read.values()] == [float(right) for right in RIGHT]
    talk = read["conversational_test_case_3"]
    assert talk.texts == {"prompt": "buys 3", "answer": "bye 3", "reference": "sold"}
    found = compare_results("a", "b", read, read, Question(slice_key="shop"))
    assert [part.name for part in found.slices] == ["s0", "s1"]


def test_an_answer_in_the_document_of_a_harness_is_not_the_answer_of_the_model(tmp_path: Path) -> None:
    row = {"doc_id": 1, "doc": {"answer": "B"}, "target": "B", "filter": "none", "metrics": ["acc"], "acc": 0.0,
           "filtered_resps": [["-1.5", "False"], ["-2.5", "False"]]}  # fmt: skip
    [read] = read_results(write(tmp_path / "a", [row]), Keys()).values()
    assert read.texts == {"reference": "B"}
