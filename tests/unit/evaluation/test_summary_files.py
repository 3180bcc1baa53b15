"""Scores of whole tasks are not compared, and the files with scores of items that belong to them are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.report import sample

from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.result_files import Keys, read_results

TASK = {
    "task_name": "arc_easy", "task_hash": "a0", "model_hash": "9d", "model_config": {"model": "m"}, "task_config": {},
    "num_instances": 570, "metrics": {"acc_raw": 0.5, "primary_score": 0.6}, "task_idx": 1,
}  # fmt: skip
SUMMARIES: dict[str, tuple[Any, str, str]] = {
    "OLMES, one task": (TASK, "OLMES", "task-001-arc_easy-predictions.jsonl"),
    "OLMES, all tasks": (
        {"all_primary_scores": ["arc_easy: 0.6", "boolq: 0.7"], "model_config": {"model": "m"},
         "metrics": [{"task": name, "acc_raw": 0.5, "primary_score": 0.6, "num_instances": 570, "task_config": {}}
                     for name in ("arc_easy", "boolq")]},
        "OLMES", "task-001-arc_easy-predictions.jsonl",
    ),
    "lm-evaluation-harness": (
        {"results": {"arc_easy": {"alias": "arc_easy", "acc,none": 0.5}}, "group_subtasks": {"arc_easy": []},
         "configs": {"arc_easy": {"metric_list": [{"metric": "acc"}]}}, "versions": {"arc_easy": 1.0},
         "n-shot": {"arc_easy": 0}},
        "lm-evaluation-harness", "samples_arc_easy_2026.jsonl",
    ),
    "lighteval": (
        {"config_general": {}, "results": {"arc|0": {"acc": 0.5}}, "versions": {}, "config_tasks": {},
         "summary_tasks": {}, "summary_general": {}},
        "lighteval", "details_arc.parquet",
    ),
    "ours": (json.loads(sample.evaluation().pretty_json()), "fine-tune eval", "evaluation/tuned.jsonl"),
}  # fmt: skip


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", SUMMARIES)
def test_scores_of_whole_tasks_are_refused_with_the_file_to_give(name: str, indent: int | None, tmp_path: Path) -> None:
    content, tool, items = SUMMARIES[name]
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(content, indent=indent))
    with pytest.raises(FineTuneError, match=f"as {tool} writes them") as caught:
        read_results(path, Keys())
    assert caught.value.code == "E03"
    assert str(tmp_path) not in caught.value.fix
    (tmp_path / items).parent.mkdir(exist_ok=True)
    (tmp_path / items).touch()
    with pytest.raises(FineTuneError) as caught:
        read_results(path, Keys())
    assert str(tmp_path / items) in caught.value.fix


def test_of_many_files_beside_it_a_few_are_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics-all.jsonl"
    path.write_text("".join(json.dumps({**TASK, "task_idx": n}) + "\n" for n in range(9)))
    for n in range(9):
        (tmp_path / f"task-00{n}-t-predictions.jsonl").touch()
    with pytest.raises(FineTuneError, match=r"task-002-t-predictions\.jsonl and 6 more"):
        read_results(path, Keys())


def test_one_row_written_over_several_lines_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps({"item": "q1", "score": 0.5, "answer": "yes"}, indent=2))
    assert {name: found.score for name, found in read_results(tmp_path / "one.json", Keys()).items()} == {"q1": 0.5}
    (tmp_path / "none.json").write_text(json.dumps({"model": "m", "config": {"k": 1}}, indent=2))
    with pytest.raises(FineTuneError, match="1 line of the results cannot be used") as caught:
        read_results(tmp_path / "none.json", Keys())
    assert "it has 'model', 'config'" in caught.value.why
