"""Calls that a file writes as text: read as calls where they can be, and written back to the letter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import write_tokenizer
from tests.unit.text.test_tool_calls import CALLING, DEAF

from finetune_exe.data.checks import ROW_CHECKS
from finetune_exe.data.checks.row import RowView
from finetune_exe.data.encoded import encode_conversations
from finetune_exe.text.conversation import Conversation
from finetune_exe.text.formats import format_named
from finetune_exe.text.tokenizer import load_tokenizer

NAMES = st.text("abcdefgh_", min_size=1, max_size=12)
ARGUMENTS = st.dictionaries(NAMES, st.one_of(st.integers(), st.text(max_size=8), st.booleans(), st.lists(st.integers(), max_size=3)), max_size=3)  # fmt: skip
CALL = st.fixed_dictionaries({"name": NAMES, "arguments": st.one_of(ARGUMENTS, ARGUMENTS.map(json.dumps))})
WRITTEN = st.one_of(
    st.builds(json.dumps, st.one_of(CALL, st.lists(CALL, max_size=3)), indent=st.sampled_from([None, 2])),
    st.text(max_size=12),
    st.sampled_from(['{"name": "f"}', '{"name": "f", "arguments": 3}', '{"name": "f", "arguments": {"a": NaN}}', "[]",
                     '{"name": "f", "arguments": {}, "id": 7}', '{"name":"a","name":"f","arguments":{}}']),
)  # fmt: skip
TURNS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["human", "gpt", "observation", "tool"]), st.text(max_size=12)),
        st.tuples(st.sampled_from(["function_call", "tool_call"]), WRITTEN),
    ),
    min_size=1,
    max_size=8,
)
CALL_TEXT = '{"name": "weather", "arguments": {"city": "Oslo"}}'
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]


def row(*turns: tuple[str, str], **columns: Any) -> dict[str, Any]:
    return {"conversations": [{"from": said, "value": value} for said, value in turns], **columns}


def read(given: dict[str, Any], name: str = "sharegpt") -> Conversation:
    found = format_named(name).read(given)  # type: ignore[arg-type]
    assert isinstance(found, Conversation), found
    return found


def whole(call: str = CALL_TEXT) -> dict[str, Any]:
    return row(
        ("human", "weather in Oslo?"), ("function_call", call), ("observation", "3 C"), ("gpt", "It is 3 degrees."),
        tools=json.dumps(TOOLS),
    )  # fmt: skip


@given(TURNS)
def test_rows_with_written_calls_come_back_as_they_were(turns: list[tuple[str, str]]) -> None:
    given_row = row(*turns)
    assert format_named("sharegpt").write(read(given_row)) == given_row
    as_messages = {"messages": [{"role": said, "content": value} for said, value in turns]}
    assert format_named("chatml").write(read(as_messages, "chatml")) == as_messages


@given(st.lists(CALL, min_size=1, max_size=3))
def test_calls_are_read_as_openai_writes_them(calls: list[dict[str, Any]]) -> None:
    results = [("observation", f"result {n}") for n in range(len(calls))]
    found = read(row(("human", "go"), ("function_call", json.dumps(calls)), *results))
    made = found.messages[1].extra["tool_calls"]
    assert [call["function"]["name"] for call in made] == [call["name"] for call in calls]
    for one, call in zip(made, calls, strict=True):
        wanted = call["arguments"]
        assert json.loads(one["function"]["arguments"]) == (json.loads(wanted) if isinstance(wanted, str) else wanted)
        assert len(one["id"]) == 9
    assert [message.extra["tool_call_id"] for message in found.messages[2:]] == [call["id"] for call in made]
    assert len({call["id"] for call in made}) == len(made)
    written = format_named("chatml").write(found)
    assert isinstance(written, dict)
    assert read(written, "chatml").messages == found.messages


@pytest.mark.parametrize("text", [
    "weather(Oslo)", '{"name": "weather"}', '{"name": "weather", "arguments": [1]}', '["weather"]', "[]", "",
    '{"name": "weather", "arguments": {}, "why": "asked"}', '{"name": "weather", "arguments": "Oslo"}',
])  # fmt: skip
def test_what_is_no_call_stays_text_and_is_told(text: str) -> None:
    found = read(whole(text))
    assert found.messages[1].content == text
    assert not found.messages[1].extra
    assert "call_as_text" in found.notes
    assert "call_as_text" not in read(whole()).notes


def test_a_changed_call_is_written_as_it_is_now() -> None:
    found = read(whole())
    found.messages[1].extra["tool_calls"][0]["function"]["name"] = "storm"
    written = format_named("sharegpt").write(found)
    assert isinstance(written, dict)
    turn = written["conversations"][1]
    assert turn["tool_calls"][0]["function"]["name"] == "storm"
    assert turn["value"] == ""


def test_a_template_with_calls_writes_them_and_one_without_learns_the_text(tmp_path: Path) -> None:
    template = CALLING.replace("ARGUMENTS", "call.function.arguments | tojson")
    learned = {}
    for name, source in (("calling", template), ("deaf", DEAF)):
        tokenizer = load_tokenizer(write_tokenizer(tmp_path / name, template=source), chat_template=None)
        (encoded,) = encode_conversations([read(whole())], tokenizer, max_length=10_000)
        assert encoded.fault is None, encoded.fault
        (sequence,) = encoded.sequences
        learned[name] = [tokenizer.decode(sequence.tokens[start:end]) for start, end in sequence.ranges]
    assert learned["calling"] == [f"<tool_call>\n{CALL_TEXT}\n</tool_call><|im_end|>", "It is 3 degrees.<|im_end|>"]
    assert learned["deaf"] == [f"{CALL_TEXT}<|im_end|>", "It is 3 degrees.<|im_end|>"]


def test_what_a_tool_is_called_with_is_checked_like_what_is_said() -> None:
    def codes(call: str) -> set[str]:
        view = RowView(read(whole(call)))
        return {check.code for check in ROW_CHECKS if check.find(view) is not None}

    assert codes(CALL_TEXT) == set()
    assert "pii" in codes('{"name": "weather", "arguments": {"to": "mara.holm@seaport.net"}}')
    assert "unknown_tool" in codes('{"name": "storm", "arguments": {}}')
    assert "tool_arguments_not_json" in codes("weather(Oslo)")
