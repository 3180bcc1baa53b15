"""Rows whose answers think first: measured as they are learned, waited for, compared by what they say, served so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import write_tokenizer
from tests.unit.text.test_thinking import SAID, TEMPLATES, THOUGHT, WITHIN, answer, chat

from finetune_exe.data.profile import profile_data
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.task import DataProfile, TaskSpec
from finetune_exe.evaluation.questions import choose_questions
from finetune_exe.export.modelfile import turn_texts
from finetune_exe.knowledge.models import find_model
from finetune_exe.models.generate import Answer
from finetune_exe.planning.analyze import analyze
from finetune_exe.planning.hardware import parse_hardware
from finetune_exe.prepared.store import StoredRow
from finetune_exe.text.formats.stored import to_json
from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer


def profile_of(folder: Path, said: dict[str, Any], *, others: int = 0) -> DataProfile:
    plain = {"role": "assistant", "content": SAID}
    rows = [{"messages": [{"role": "user", "content": f"ask {number}"}, turn]}
            for turn, count in (({"role": "assistant", **said}, 30), (plain, others)) for number in range(count)]  # fmt: skip
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return profile_data([str(folder / "rows.jsonl")])


def longest_answer(profile: DataProfile) -> int:
    plan = analyze(TaskSpec(description="solve sums"), profile=profile, hardware=parse_hardware("RTX 4090"))
    return plan.evaluation.max_new_tokens


@pytest.mark.parametrize("length", [10, 9_000])
def test_thinking_counts_wherever_it_stands(tmp_path: Path, length: int) -> None:
    thought = "so it is " * length
    under_a_key = profile_of(tmp_path, {"content": SAID, "reasoning_content": thought})
    within = profile_of(tmp_path, {"content": f"<think>{thought}</think>{SAID}"})
    for profile in (under_a_key, within):
        assert profile.thinking_share == 1
        assert profile.distinct_answers == 1
        assert profile.answer_characters_p50 >= len(thought.strip()) + len(SAID)
        assert longest_answer(profile) == min(4096, 16 * -(-profile.answer_characters_p95 // 48) + 16)
    assert profile_of(tmp_path, {"content": SAID, "reasoning_content": ""}).thinking_share == 0


def test_where_most_answers_do_not_think_none_is_waited_for_longer(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, {"content": SAID, "thinking": "so it is " * 900}, others=40)
    assert profile.thinking_share == pytest.approx(30 / 70)
    assert longest_answer(profile) == 512


def plan_of(profile: DataProfile, **wished: Any) -> Plan:
    spec = TaskSpec(description="answer questions", **wished)
    return analyze(spec, profile=profile, hardware=parse_hardware("RTX 4090"))


def test_a_plan_says_what_becomes_of_it(tmp_path: Path) -> None:
    thinking = profile_of(tmp_path, {"content": SAID, "thinking": "so it is"})
    plan = plan_of(thinking)
    assert find_model(plan.model.reference).thinks
    assert "a place for what the answers think" in plan.decisions["model.reference"].reason
    assert "100% of the answers think first, and learn that." in plan.notes
    for candidate in plan.shortlist:
        if not find_model(candidate.reference).thinks:
            assert any("may not write what the answers think" in point for point in candidate.reasons)
    other = plan_of(thinking, model="Qwen/Qwen2.5-7B-Instruct")
    assert any("Qwen2.5-7B-Instruct may not write it: rows that keep it under a key" in note for note in other.notes)
    plain = plan_of(profile_of(tmp_path, {"content": SAID}))
    assert "thoughts switched off" in plain.decisions["model.reference"].reason
    assert not any("think first" in note for note in plain.notes)


def tokenizer_of(folder: Path, name: str) -> ChatTokenizer:
    return load_tokenizer(write_tokenizer(folder / "tokenizer", template=TEMPLATES[name]), chat_template=None)


@pytest.mark.parametrize(
    ("name", "written", "said"),
    [
        ("opened by the model", WITHIN, SAID),
        ("opened by the model", f"<think>{THOUGHT}", ""),
        ("opened by the server", f"{THOUGHT}\n</think>\n{SAID}", SAID),
        ("opened by the server", THOUGHT, ""),
        ("opened by the model", SAID, SAID),
    ],
)
def test_an_answer_is_scored_by_what_it_says(tmp_path: Path, name: str, written: str, said: str) -> None:
    plan = analyze(TaskSpec(description="solve sums"), profile=None, hardware=parse_hardware("RTX 4090"))
    rows = [StoredRow(source="rows.jsonl:1", group="", conversation=to_json(chat(answer(thinking=THOUGHT))))]
    questions = choose_questions(rows, plan, tokenizer_of(tmp_path, name))
    answers = [Answer(written, stopped=True, num_tokens=1)]
    [answered] = questions.answered(answers)
    assert questions.said(answers) == [said]
    assert (answered.answer, answered.reference) == (said, SAID)


def test_a_server_without_switches_asks_as_most_rows_answer(tmp_path: Path) -> None:
    template = tokenizer_of(tmp_path, "opened by the server").template
    assert template is not None
    asked = [turn_texts(template, thinking=thinking) for thinking in (True, False)]
    assert [texts.answer_next if texts else None for texts in asked] == [
        "<|im_end|>\n<|im_start|>assistant\n<think>\n", "<|im_end|>\n<|im_start|>assistant\n<think></think>",
    ]  # fmt: skip
