"""Chat files for a service: every rule has a line that breaks it, and tokens are held against a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_exe.cli.main import cli
from finetune_exe.domain.values import Interval
from finetune_exe.errors import FineTuneError
from finetune_exe.export.openai_file import check_chat_file, require_sound, tiktoken_counter, training_cost
from finetune_exe.export.openai_rows import row_faults
from finetune_exe.knowledge.hosted_models import hosted_models

MODEL = "gpt-4.1-mini-2025-04-14"
USER, ANSWER = {"role": "user", "content": "the fox"}, {"role": "assistant", "content": "jumps"}
TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}]
CALL = {
    "role": "assistant",
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "now", "arguments": "{}"}}],
}
SOUND: list[dict[str, Any]] = [
    {"messages": [USER, ANSWER]},
    {"messages": [{"role": "developer", "content": "be quick"}, USER, {**ANSWER, "weight": 0}, USER, ANSWER]},
    {"messages": [{**USER, "name": "Ada-1"}, {**ANSWER, "weight": 1}]},
    {"messages": [USER, CALL, {"role": "tool", "tool_call_id": "1", "content": "noon"}, ANSWER], "tools": TOOLS},
    {"messages": [USER, CALL], "tools": TOOLS, "parallel_tool_calls": False},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "look"},
                                                {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}, ANSWER]},
]  # fmt: skip
BROKEN: list[tuple[Any, str]] = [
    ("{", "not_json"),
    ([USER, ANSWER], "not_an_object"),
    ({"messages": []}, "no_messages"),
    ({"prompt": "a", "completion": "b"}, "no_messages"),
    ({"messages": [USER, ANSWER], "id": 7}, "unknown_key"),
    ({"messages": [{**USER, "train": True}, ANSWER]}, "unknown_key"),
    ({"messages": ["hello", ANSWER]}, "not_a_turn"),
    ({"messages": [{"role": "human", "content": "x"}, ANSWER]}, "unknown_role"),
    ({"messages": [ANSWER, USER]}, "last_is_no_answer"),
    ({"messages": [USER, {**ANSWER, "weight": 0}]}, "nothing_to_learn"),
    ({"messages": [USER, {**ANSWER, "weight": 0.5}]}, "bad_weight"),
    ({"messages": [{**USER, "weight": 1}, ANSWER]}, "bad_weight"),
    ({"messages": [{**USER, "name": "Ada Lovelace"}, ANSWER]}, "bad_name"),
    ({"messages": [USER, {"role": "assistant", "content": None}]}, "no_content"),
    ({"messages": [USER, {"role": "assistant"}]}, "no_content"),
    ({"messages": [{"role": "user", "content": [{"type": "audio"}]}, ANSWER]}, "no_content"),
    ({"messages": [USER, {"role": "assistant", "content": ""}]}, "empty_answer"),
    ({"messages": [USER, CALL]}, "unknown_tool"),
    ({"messages": [USER, {"role": "assistant", "tool_calls": [{"name": "now"}]}], "tools": TOOLS}, "bad_call"),
    ({"messages": [USER, CALL, {"role": "tool", "content": "noon"}, ANSWER], "tools": TOOLS}, "no_call_id"),
    ({"messages": [USER, ANSWER], "tools": [{"name": "now"}]}, "bad_tools"),
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def numbered(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": f"say {number}"}, ANSWER]} for number in range(first, first + count)
    ]


@pytest.mark.parametrize("row", SOUND)
def test_a_row_that_keeps_the_rules_has_no_fault(row: dict[str, Any]) -> None:
    assert row_faults(json.dumps(row), 1) == (row, [])


@pytest.mark.parametrize(("row", "code"), BROKEN)
def test_each_rule_is_held(row: Any, code: str) -> None:
    _, faults = row_faults(row if isinstance(row, str) else json.dumps(row), 7)
    assert code in [fault.code for fault in faults]
    assert {fault.line for fault in faults} == {7}


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["messages", "role", "content", "tools", "tool_calls", "weight", "name", "function", "type"]),
            inner, max_size=4,
        ),
        max_leaves=12,
    )
)  # fmt: skip
def test_no_row_is_too_odd(row: Any) -> None:
    found, faults = row_faults(json.dumps(row), 1)
    assert faults or (found is not None and found["messages"][-1]["role"] == "assistant")


def test_a_file_is_counted_and_its_faults_named_by_line(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [*numbered(11), {"messages": [USER]}])
    found = check_chat_file(path, model=MODEL)
    assert (found.num_rows, found.num_bytes) == (12, path.stat().st_size)
    assert [(fault.line, fault.code) for fault in found.faults] == [(12, "last_is_no_answer"), (12, "nothing_to_learn")]
    with pytest.raises(FineTuneError, match=r"(?s)FT-O05.*2 faults in 1 files"):
        require_sound([found])


def test_one_fault_of_many_rows_is_said_once_with_their_lines_and_the_way_to_mend_it(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "b"}] * 11)
    done = CliRunner().invoke(cli, ["openai", "check", str(path)])
    said = [line for line in done.stdout.splitlines() if line.endswith("[no_messages]")]
    assert said == [
        "  lines 1, 2, 3, 4, 5, 6, 7, 8 and 3 more: there is no list 'messages' with turns in it [no_messages]"
    ]
    assert f"fine-tune dataset chatml {path} -o NEW.jsonl" in done.stdout
    assert "more; --json" not in done.stdout


def test_few_rows_and_long_rows_are_faults(tmp_path: Path) -> None:
    few = check_chat_file(write(tmp_path / "few.jsonl", numbered(9)), model=MODEL)
    assert [fault.code for fault in few.faults] == ["too_few_rows"]
    assert not check_chat_file(write(tmp_path / "enough.jsonl", numbered(10)), model=MODEL).num_faults
    long = {"messages": [USER, {"role": "assistant", "content": "word " * 200_000}]}
    found = check_chat_file(write(tmp_path / "long.jsonl", [*numbered(9), long]), model=MODEL)
    assert [(fault.line, fault.code) for fault in found.faults] == [(10, "too_long")]
    assert not check_chat_file(tmp_path / "long.jsonl", model="a-model-nobody-knows").num_faults


def test_rows_on_both_sides_are_refused(tmp_path: Path) -> None:
    files = [
        check_chat_file(write(tmp_path / f"{name}.jsonl", numbered(12, first)), model=MODEL)
        for name, first in (("train", 0), ("validation", 11))
    ]
    with pytest.raises(FineTuneError, match=r"(?s)FT-O05.*1 rows stand in both files"):
        require_sound(files)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FineTuneError, match="FT-D07"):
        check_chat_file(tmp_path / "none.jsonl", model=MODEL)
    (tmp_path / "odd.jsonl").write_bytes(b"\xff\xfe{")
    with pytest.raises(FineTuneError, match=r"FT-D01.*at byte 0"):
        check_chat_file(tmp_path / "odd.jsonl", model=MODEL)
    (tmp_path / "late.jsonl").write_bytes(b'{"a": 1}\n{"b": "\xff"}\n')
    with pytest.raises(FineTuneError, match=r"FT-D01.*at byte 16"):
        check_chat_file(tmp_path / "late.jsonl", model=MODEL)
    with pytest.raises(FineTuneError, match=r"FT-D07.*Is a directory"):
        check_chat_file(tmp_path, model=MODEL)


def test_tokens_that_are_counted_follow_the_published_formula(tmp_path: Path) -> None:
    """Three around each turn, one for its role, three at the end; here a word is a token."""
    path = write(tmp_path / "rows.jsonl", numbered(10))
    found = check_chat_file(path, model=MODEL, count=lambda text: len(text.split()))
    assert found.tokens == Interval(low=140, mid=140, high=140)
    assert found.longest.mid == 2 * 4 + 3 + 2 + 1
    assert found.counted


@pytest.mark.parametrize(
    "text", ["The quick brown fox jumps over the lazy dog, and then it sleeps in the warm sun all day. " * 5,
             "def add(first, second):\n    return first + second\n" * 8,
             "Der schnelle Fuchs überspringt den faulen Hund; danach schläft er in der Sonne. " * 5,
             "敏捷的棕色狐狸跳过了懒狗，然后在温暖的阳光下睡了一整天。" * 6]
)  # fmt: skip
def test_tokens_judged_from_letters_hold_the_count_of_a_tokenizer(text: str, tmp_path: Path) -> None:
    count = tiktoken_counter(MODEL)
    if count is None:
        pytest.skip("tiktoken, or its files, are not on this machine")
    rows = [{"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}]}] * 10
    path = write(tmp_path / "rows.jsonl", rows)
    judged, counted = check_chat_file(path, model=MODEL).tokens, check_chat_file(path, model=MODEL, count=count).tokens
    assert judged.low <= counted.mid <= judged.high


def test_the_price_is_tokens_times_epochs_times_the_dated_price() -> None:
    cost = training_cost(Interval(low=1e6, mid=2e6, high=4e6), 3, MODEL)
    assert cost == Interval(low=15.0, mid=30.0, high=60.0)
    assert training_cost(Interval(low=1, mid=1, high=1), 3, "another") is None
    assert all(model.source and model.date.year >= 2025 for model in hosted_models().values())
