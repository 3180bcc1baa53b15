"""A run held against a served model, and judged by one: what is asked, and what comes of replies that say nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation import served as scoring_served
from finetune_exe.evaluation.endpoint import Endpoint, Reply
from finetune_exe.evaluation.result_files import Keys, read_results
from finetune_exe.evaluation.served import answered_items
from finetune_exe.workflow import served

ENDPOINT = Endpoint(url="http://localhost:1/v1", model="judge")


def items(path: Path, answers: dict[int, str], *, score: float = 0.0) -> None:
    lines = [
        {"item": f"chrf/{i}", "suite": "chrf", "score": score, "prompt": f"q{i}", "answer": answer,
         "reference": f"gold {i} as it is"}
        for i, answer in answers.items()
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Judge twenty answers, of which the tuned model has all right; some are such that the judge falls silent."""
    monkeypatch.setenv("FINETUNE_EXE_CACHE", str(tmp_path / "cache"))
    asked: list[str] = []

    def reply(_endpoint: Endpoint, messages: list[dict[str, str]], *, max_tokens: int) -> Reply:
        assert max_tokens > 0
        question, a, b = re.findall(r"<(?:QUESTION|ANSWER [AB]) \w+>\n(.*?)\n</", messages[-1]["content"], re.DOTALL)
        asked.append(question)
        right = [text.startswith(f"gold {question[1:]} ") for text in (a, b)]
        silent = "mumble" in a + b
        return Reply(text="Well." if silent else "T" if right[0] == right[1] else "AB"[right[1]], stopped=True)

    monkeypatch.setattr(served, "ask", reply)

    def judge(wrong: str, silent: int = 0) -> Any:
        run = tmp_path / "run"
        items(run / "evaluation" / "base.jsonl", {i: "mumble" if i < silent else wrong for i in range(20)})
        items(run / "evaluation" / "tuned.jsonl", {i: f"gold {i} or so" for i in range(20)}, score=1.0)
        asked.clear()
        found = served.judge_run(run, ENDPOINT, progress=lambda *_: None)
        return *found, list(asked)

    return judge


def test_a_server_is_greeted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    def reply(endpoint: Endpoint, turns: list[dict[str, str]], **_: Any) -> Reply:
        asked.append(f"{endpoint.model}: {turns[0]['content']}")
        return Reply(text="Yes", stopped=True)

    monkeypatch.setenv("FINETUNE_EXE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(scoring_served, "ask", reply)
    for endpoint in (ENDPOINT, ENDPOINT, replace(ENDPOINT, model="other")):
        served.reach(endpoint)
    assert [words.partition(":")[0] for words in asked] == ["judge", "other"]


def test_a_trusted_judge_compares_all_pairs_and_goes_on_where_it_was(judged: Callable[..., Any]) -> None:
    quality, result, asked = judged("wrong")
    assert quality.trusted
    assert (result.comparison.n, result.comparison.candidate, result.comparison.verdict) == (20, 1.0, "improved")
    _, again, asked_again = judged("wrong")
    assert again.comparison == result.comparison
    assert len(asked) - len(asked_again) == 2 * 20, "verdicts are kept"


def test_verdicts_that_cannot_be_read_are_left_out_and_said(judged: Callable[..., Any]) -> None:
    _, result, _ = judged("wrong", silent=8)
    assert (result.comparison.n, result.comparison.candidate) == (12, 1.0)
    assert result.notes[0] == "8 of 20 verdicts could not be read and are left out"
    with pytest.raises(FineTuneError, match="no verdict that can be read") as caught:
        judged("wrong", silent=20)
    assert caught.value.code == "E06"


def test_a_served_model_is_scored_by_all_labels_whichever_rows_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 400 rows every other one is asked, none of which is spam: who names two labels is wrong all the same."""
    said = ["ham" if n % 4 == 0 else "news" if n % 4 == 2 else "spam" for n in range(400)]
    lines = [{"item": f"accuracy/{n}", "score": 1, "prompt": f"q{n}", "answer": label, "reference": label}
             for n, label in enumerate(said)]  # fmt: skip
    path = tmp_path / "tuned.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [
        SimpleNamespace(conversation={"kind": "chat", "messages": [
            {"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": label},
        ]}) for n, label in enumerate(said)
    ]  # fmt: skip
    plan: Any = SimpleNamespace(
        task=SimpleNamespace(type="classification"), profile=None, evaluation=SimpleNamespace(max_new_tokens=4)
    )
    data: Any = SimpleNamespace(split=lambda _: SimpleNamespace(read_rows=lambda: rows))
    monkeypatch.setattr(scoring_served, "ask", lambda *_, **__: Reply(text="ham or spam", stopped=True))
    found = scoring_served.ask_served(plan, data, ENDPOINT, like=read_results(path, Keys()), cache=None)
    assert len(found) == 200
    assert {item.texts["reference"] for item in found.values()} == {"ham", "news"}
    assert {item.score for item in found.values()} == {0.0}


def test_items_for_a_served_model_are_spread_over_all_that_were_answered(tmp_path: Path) -> None:
    items(tmp_path / "run" / "tuned.jsonl", dict.fromkeys(range(500), "a"))
    read = read_results(tmp_path / "run" / "tuned.jsonl", Keys())
    assert [item.item for item in answered_items(read, most=5)] == [f"chrf/{i}" for i in (0, 100, 200, 300, 400)]
    assert len(answered_items(read, most=900)) == 500


def test_a_run_without_answers_has_nothing_to_judge(tmp_path: Path) -> None:
    for name in ("base", "tuned"):
        (tmp_path / "evaluation").mkdir(exist_ok=True)
        (tmp_path / "evaluation" / f"{name}.jsonl").write_text('{"item": "s/1", "suite": "s", "score": 1}\n')
    with pytest.raises(FineTuneError, match="no answered item"):
        served.judge_run(tmp_path, ENDPOINT, progress=lambda *_: None)
