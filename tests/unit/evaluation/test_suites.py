"""Regression suites from files: their forms, their scores, and items that cannot be used."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import write_model

from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.suites import Suite, read_suites, score_suite
from finetune_exe.models.load import load_model
from finetune_exe.text.tokenizer import load_tokenizer

EVAL = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "eval"
FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "choices": ({"query": "2 + 2 =", "choices": ["3", "4"], "gold": 1}, "multiple_choice"),
    "options": (
        {"context_options": ["the fox and the fox", "the fox and the dog"], "continuation": "ran", "gold": 0},
        "multiple_choice",
    ),
    "endings": ({"ctx": "the fox", "endings": ["runs", "x"], "label": "0"}, "multiple_choice"),
    "continuation": ({"context": "2 - 3 =", "continuation": " -1"}, "continuation"),
    "target": ({"input": "not True is", "target": "False"}, "continuation"),
    "text": ({"text": "the quick brown fox"}, "text"),
}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def suite_of(tmp_path: Path, row: dict[str, Any], count: int = 3) -> Suite:
    [suite], left_out = read_suites(write(tmp_path / "s.jsonl", [row] * count), max_items=10)
    assert not left_out
    return suite


@pytest.mark.parametrize("form", list(FORMS))
def test_every_form_is_known_and_scored(form: str, tmp_path: Path) -> None:
    row, kind = FORMS[form]
    suite = suite_of(tmp_path, row)
    assert suite.kind == kind
    folder = write_model(tmp_path / "model")
    model, tokenizer = (
        load_model(folder, dtype="float32", device="cpu").eval(),
        load_tokenizer(folder, chat_template=None),
    )
    scores = score_suite(model, suite, tokenizer, max_length=128)
    assert len(set(scores)) == 1
    item = suite.items[0]
    if kind == "multiple_choice":
        logs = []
        for context, continuation in zip(item.contexts, item.continuations, strict=True):
            before, whole = (tokenizer.encode(t).ids for t in (context, context + continuation))
            with torch.no_grad():
                table = torch.log_softmax(model(input_ids=torch.tensor([whole])).logits[0].double(), -1)
            logs.append(sum(float(table[k - 1, whole[k]]) for k in range(len(before), len(whole))))
        assert scores[0] == float(logs[item.gold] == max(logs))


def test_a_text_longer_than_the_model_can_take_is_predicted_whole(tmp_path: Path) -> None:
    """Every token but the start is predicted once; cut to the last window alone, a text looked five times easier."""
    text = "the quick brown fox jumps over the lazy dog and the user said so " * 6
    suite = suite_of(tmp_path, {"text": text}, count=1)
    folder = write_model(tmp_path / "model")
    model = load_model(folder, dtype="float32", device="cpu").eval()
    tokenizer = load_tokenizer(folder, chat_template=None)
    tokens, length = list(tokenizer.encode(text).ids), 16
    assert len(tokens) > 4 * length
    whole = [tokenizer.bos_token_id, *tokens]
    expected = 0.0
    for start in range(0, len(tokens), length):
        end = min(start + length, len(tokens))
        first = max(0, end - length)
        with torch.no_grad():
            table = torch.log_softmax(model(input_ids=torch.tensor([whole[first:end]])).logits[0].double(), -1)
        expected += sum(float(table[k - first, whole[k + 1]]) for k in range(start, end))
    [found] = score_suite(model, suite, tokenizer, max_length=length)
    assert found == pytest.approx(expected / math.log(2) / len(text.encode()), rel=1e-5)


def test_contexts_and_continuations_are_parted_by_one_space(tmp_path: Path) -> None:
    item = suite_of(tmp_path, FORMS["continuation"][0]).items[0]
    assert (item.contexts[0], item.continuations[0]) == ("2 - 3 =", " -1")
    item = suite_of(tmp_path, {"query": "Question: x\nAnswer:\n", "choices": ["a", "b"], "gold": 0}).items[0]
    assert (item.contexts[0], item.continuations[0]) == ("Question: x\nAnswer:", "\na")


def test_items_are_taken_evenly_and_name_their_content(tmp_path: Path) -> None:
    rows = [{"query": f"q {i}", "choices": ["a", "b"], "gold": i % 2, "subject": f"s{i % 3}"} for i in range(90)]
    [suite], _ = read_suites(write(tmp_path / "s.jsonl", rows), max_items=9)
    assert [item.name for item in suite.items] == [str(i) for i in range(0, 90, 10)]
    assert {item.cluster for item in suite.items} == {"s0", "s1", "s2"}
    rows[10]["gold"] = 1
    [other], _ = read_suites(write(tmp_path / "s.jsonl", rows), max_items=9)
    assert other.digest != suite.digest


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"query": "q", "choices": ["a", "b"], "gold": 0}, {"query": "q", "choices": ["a", "b"]}], "item 2"),
        ([{"query": "q", "choices": ["a", "b"], "gold": 2}], "the right choice is 2"),
        ([{"query": "q", "choices": ["a", 3], "gold": 0}], "no text"),
        ([{"query": "q", "choices": 5, "gold": 0}], "item 1"),
        ([{"query": "q", "choices": ["a", "b"], "gold": 0}, [1]], "item 2"),
        ([{"query": "q", "choices": ["a", "b"], "gold": "x"}], "the right choice is 'x' of 2"),
        ([{"query": "q", "choices": ["a", "b"], "gold": None}], "the right choice is None of 2"),
        ([{"context_options": 7, "continuation": "c", "gold": 0}], "7 is no list of texts"),
        ([{"x": 1}], "no regression suite"),
        ([{"query": "q", "choices": ["a", "b"]}], "the first one has query, choices"),
        ([[1]], "the first one has a list"),
        ([], "s: it is empty"),
    ],
)
def test_items_that_cannot_be_used_are_named(rows: list[Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(FineTuneError) as refused:
        read_suites(write(tmp_path / "s.jsonl", rows), max_items=10)
    assert refused.value.code == "E05"
    assert words in str(refused.value)
    assert "Error: " not in str(refused.value)


def test_a_broken_or_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"query": \n')
    with pytest.raises(FineTuneError, match="line 1 is no JSON: Expecting value at column 11"):
        read_suites(tmp_path, max_items=10)
    for content in ('{"items": []}', '{"examples": 5}', "7"):
        (tmp_path / "s.json").write_text(content)
        with pytest.raises(FineTuneError, match="it holds no list of items"):
            read_suites(tmp_path / "s.json", max_items=10)
    (tmp_path / "s.json").unlink()
    with pytest.raises(FineTuneError, match="it does not exist"):
        read_suites(tmp_path / "missing", max_items=10)
    (tmp_path / "s.jsonl").unlink()
    with pytest.raises(FineTuneError, match=r"holds no \.jsonl"):
        read_suites(tmp_path, max_items=10)


def test_a_folder_of_public_benchmarks_works_as_it_is() -> None:
    if not EVAL.is_dir():
        pytest.skip("the benchmark items are not on this machine")
    suites, left_out = read_suites(EVAL, max_items=20)
    kinds = {suite.name: suite.kind for suite in suites}
    assert {"arc_challenge", "piqa", "winogrande", "hellaswag_sample", "lambada_openai", "boolq", "svamp"} <= set(kinds)
    assert kinds["winogrande"] == kinds["hellaswag_sample"] == "multiple_choice"
    assert all(len(suite.items) <= 20 for suite in suites)
    assert len(suites) >= 18
    assert all(":" in reason for reason in left_out)
