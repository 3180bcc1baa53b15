"""Tasks of lm-evaluation-harness, scored here, against the harness's own evaluation of the same model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import write_model

from finetune_exe.errors import MISSING, FineTuneError
from finetune_exe.evaluation import harness
from finetune_exe.evaluation.harness import harness_suites
from finetune_exe.evaluation.suites import score_suite
from finetune_exe.models.load import load_model
from finetune_exe.text.tokenizer import load_tokenizer

TASKS = {
    "tiny_choices": ("multiple_choice", {"doc_to_text": "{{query}}", "doc_to_choice": "choices", "doc_to_target": "gold"}, "acc"),
    "tiny_words": ("loglikelihood", {"doc_to_text": "{{query}}", "doc_to_target": "{{choices[gold]}}"}, "acc"),
    "tiny_texts": ("loglikelihood_rolling", {"doc_to_text": "", "doc_to_target": "{{query}} {{choices[0]}}"}, "bits_per_byte"),
    "tiny_answers": ("generate_until", {"doc_to_text": "{{query}}", "doc_to_target": "{{choices[gold]}}"}, "exact_match"),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: pip install lm-eval")
    folder = tmp_path_factory.mktemp("tasks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        write_tasks(folder)
    return folder


def write_tasks(folder: Path) -> None:
    words = ("fox", "dog", "user", "end", "lazy", "quick")
    rows = [
        {"query": f"the {a} said", "choices": [b, f"{b} {a}", "the end"], "gold": (n + m) % 3}
        for n, a in enumerate(words) for m, b in enumerate(words)
    ]  # fmt: skip
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, (kind, fields, metric) in TASKS.items():
        task = {
            "task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
            "test_split": "test", "output_type": kind, "num_fewshot": 0, **fields, "metric_list": [{"metric": metric}],
        }  # fmt: skip
        (folder / f"{name}.yaml").write_text(json.dumps(task))


@pytest.mark.filterwarnings("ignore")
def test_scores_are_those_of_the_harness(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    base = write_model(tmp_path / "tiny")
    suites, left_out = harness_suites(list(TASKS), folder=folder, max_items=1000)
    assert [suite.name for suite in suites] == ["harness/tiny_choices", "harness/tiny_texts", "harness/tiny_words"]
    assert left_out == ["tiny_answers: its answers are generated (generate_until)"]
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    theirs: Any = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(base), device="cpu", dtype="float32", batch_size=4), tasks=list(TASKS)[:3],
        task_manager=TaskManager(include_path=str(folder)), bootstrap_iters=0,
    )  # fmt: skip
    model, tokenizer = load_model(base, dtype="float32", device="cpu").eval(), load_tokenizer(base, chat_template=None)
    for suite in suites:
        scores = score_suite(model, suite, tokenizer, max_length=256)
        assert len(scores) == 36
        result = theirs["results"][suite.name.removeprefix("harness/")]
        if suite.kind == "text":
            sizes = [len(item.continuations[0].encode()) for item in suite.items]
            ours = -sum(score * size for score, size in zip(scores, sizes, strict=True)) / sum(sizes)
            assert ours == pytest.approx(result["bits_per_byte,none"], rel=1e-4)
        else:
            assert sum(scores) / 36 == pytest.approx(result["acc,none"], abs=1e-9)


@pytest.mark.filterwarnings("ignore")
def test_items_are_taken_evenly(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    [suite], _ = harness_suites(["tiny_choices"], folder=folder, max_items=6)
    assert [item.contexts[0].split()[1] for item in suite.items] == ["fox", "dog", "user", "end", "lazy", "quick"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["no_such_task_anywhere", "tiny_answers"])
def test_a_task_that_cannot_be_scored_is_named(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    with pytest.raises(FineTuneError) as caught:
        harness_suites([name], folder=folder, max_items=6)
    assert caught.value.code == "E05"
    assert name in str(caught.value)


def test_without_the_harness_the_command_that_brings_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "lm_eval", raising=False)
    with pytest.raises(FineTuneError) as caught:
        harness_suites(["arc_easy"], folder=None, max_items=6)
    assert caught.value.exit_status == MISSING
    assert "finetune-exe[eval]" in caught.value.fix
