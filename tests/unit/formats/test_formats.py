"""Formats: every layout there and back, every fault by its name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.errors import FineTuneError
from finetune_exe.text.conversation import Conversation, Message, Role, RowFault
from finetune_exe.text.formats import FORMATS, format_named
from finetune_exe.text.formats.detect import detect_format
from finetune_exe.text.formats.format import Format
from finetune_exe.text.formats.stored import from_json, to_json

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ROLES: st.SearchStrategy[Role] = st.sampled_from(["system", "user", "assistant", "tool"])
MESSAGES = st.builds(
    Message, role=ROLES, content=TEXTS, extra=st.sampled_from([{}, {"name": "a"}, {"tool_calls": [{"id": "1"}]}])
)
CHATS = st.builds(
    Conversation,
    kind=st.just("chat"),
    messages=st.lists(MESSAGES, min_size=1, max_size=6).map(tuple),
    extra=st.sampled_from([{}, {"id": 3}, {"tools": [{"name": "f"}]}]),
)
ALPACA_ROWS = st.fixed_dictionaries(
    {"instruction": TEXTS, "output": TEXTS},
    optional={
        "input": st.none() | TEXTS,
        "system": st.none() | TEXTS,
        "history": st.none() | st.lists(st.lists(TEXTS, min_size=2, max_size=2), max_size=3),
        "id": st.integers(),
    },
)
LABEL_ROWS = st.fixed_dictionaries({"text": TEXTS, "label": TEXTS | st.integers() | st.booleans()})
PARTS = st.lists(st.fixed_dictionaries({"type": st.just("text"), "value": TEXTS}), max_size=3)
TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(["USER", "human", "model", "system", "observation"]), "content": TEXTS | PARTS},
    optional={"loss_weight": st.sampled_from([0, 1, 0.0, 1.0]), "name": TEXTS},
)
CHAT_ROWS = st.fixed_dictionaries(
    {"messages": st.lists(TURNS, min_size=1, max_size=4)}, optional={"id": st.integers(), "system": TEXTS}
)


def read(name: str, row: Any) -> Conversation:
    result = format_named(name).read(row)  # type: ignore[arg-type]
    assert isinstance(result, Conversation), result
    return result


def fault_code(name: str, row: Any) -> str:
    result = format_named(name).read(row)  # type: ignore[arg-type]
    assert isinstance(result, RowFault)
    assert result.message
    assert result.fix
    return result.code


@given(ALPACA_ROWS)
def test_alpaca_rows_come_back_as_they_were(row: dict[str, Any]) -> None:
    assert format_named("alpaca").write(read("alpaca", row)) == row


@given(LABEL_ROWS)
def test_labelled_rows_come_back_as_they_were_numbers_included(row: dict[str, Any]) -> None:
    written = format_named("prompt_completion").write(read("prompt_completion", row))
    assert written == row
    assert type(written["label"]) is type(row["label"])  # type: ignore[call-overload,index]


@given(CHAT_ROWS)
def test_chat_rows_come_back_as_they_were(row: dict[str, Any]) -> None:
    chatml = format_named("chatml")
    assert chatml.write(read("chatml", row)) == row
    as_text = {**row, "messages": json.dumps(row["messages"])}
    assert chatml.write(read("chatml", as_text)) == as_text


@pytest.mark.parametrize("target", FORMATS, ids=lambda entry: entry.name)
@given(CHATS)
def test_a_fresh_row_reads_as_the_conversation_it_was_written_from(target: Format, conversation: Conversation) -> None:
    written = target.write(conversation)
    if not isinstance(written, RowFault):
        again = target.read(written)
        assert isinstance(again, Conversation)
        assert (again.messages, again.extra) == (conversation.messages, conversation.extra)


@given(CHATS)
def test_stored_conversations_come_back(conversation: Conversation) -> None:
    assert from_json(json.loads(json.dumps(to_json(conversation)))) == conversation


def test_system_column_and_weights_reach_the_turns() -> None:
    row = {
        "system": "Be brief.",
        "conversations": [
            {"from": "human", "value": "a"},
            {"from": "gpt", "value": "b", "weight": 0},
            {"from": "human", "value": "c"},
            {"from": "gpt", "value": "d"},
        ],
    }
    conversation = read("sharegpt", row)
    assert [message.role for message in conversation.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert [message.learn for message in conversation.messages if message.role == "assistant"] == [False, True]
    assert format_named("sharegpt").write(conversation) == row
    assert isinstance(format_named("alpaca").write(conversation), RowFault)


def test_input_stands_below_the_instruction() -> None:
    conversation = read("alpaca", {"Instruction": "Sum up.", "context": "Long.", "Response": "Short."})
    assert [message.content for message in conversation.messages] == ["Sum up.\n\nLong.", "Short."]


def test_history_becomes_earlier_turns() -> None:
    row = {"query": "c", "response": "d", "history": [["a", "b"]]}
    assert [message.content for message in read("prompt_completion", row).messages] == ["a", "b", "c", "d"]
    chat = {"messages": [{"role": role, "content": role} for role in ("user", "assistant") * 2]}
    assert isinstance(format_named("prompt_completion").write(read("chatml", chat)), RowFault)
    assert isinstance(format_named("alpaca").write(read("chatml", chat)), dict)


def test_null_content_beside_tool_calls_is_fine() -> None:
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]
    conversation = read("chatml", turns)
    assert conversation.messages[1].extra == {"tool_calls": [{"id": "1"}]}
    assert format_named("chatml").write(conversation) == turns


@pytest.mark.parametrize(
    ("name", "row", "code"),
    [
        ("alpaca", {"instruction": "a"}, "missing_key"),
        ("alpaca", {"instruction": "a", "output": None}, "null_content"),
        ("alpaca", {"instruction": "a", "output": 3.14}, "non_string_content"),
        ("alpaca", {"instruction": "a", "output": "b", "history": "c"}, "bad_history"),
        ("alpaca", [1, 2], "bare_array"),
        ("alpaca", "text", "bare_string"),
        ("prompt_completion", {"prompt": "a"}, "missing_key"),
        ("prompt_completion", {"other": "a"}, "missing_key"),
        ("completion", {"title": "a", "body": "b"}, "missing_key"),
        ("completion", {"text": None}, "null_content"),
        ("chatml", {"turns": []}, "missing_key"),
        ("chatml", {"messages": None}, "null_content"),
        ("chatml", {"messages": "hello"}, "messages_not_a_list"),
        ("chatml", {"messages": []}, "empty_messages"),
        ("chatml", {"messages": ["hello"]}, "non_string_content"),
        ("chatml", {"messages": [{"content": "a"}]}, "missing_role"),
        ("chatml", {"messages": [{"role": "user"}]}, "missing_content"),
        ("chatml", {"messages": [{"role": "user", "content": None}]}, "null_content"),
        ("chatml", {"messages": [{"role": "user", "content": 3}]}, "non_string_content"),
        ("chatml", {"messages": [{"role": "narrator", "content": "a"}]}, "unknown_role"),
        ("chatml", {"messages": [{"from": "gpt", "value": "a"}]}, "mixed_keys_in_one_conversation"),
        ("chatml", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "non_text_content"),
        ("chatml", {"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]}, "unsupported_weight"),
        ("chatml", {"messages": [{"role": "assistant", "content": "a"}], "label": False}, "rejected_answer"),
    ],
)  # fmt: skip
def test_faults_have_names(name: str, row: Any, code: str) -> None:
    assert fault_code(name, row) == code


def test_no_target_drops_a_column_for_its_own() -> None:
    conversation = read("sharegpt", {"conversations": [{"from": "gpt", "value": "a"}], "note": "b"})
    clash = Conversation(kind="chat", messages=conversation.messages, extra={"messages": "kept aside"})
    assert isinstance(format_named("chatml").write(clash), RowFault)


def unknown(*rows: Any) -> FineTuneError:
    with pytest.raises(FineTuneError) as caught:
        detect_format(rows, where="x.jsonl")
    assert caught.value.code == "D03"
    return caught.value


def test_unknown_columns_are_named_with_what_can_be_done() -> None:
    fault = unknown({"breite": 1, "hoehe": 2})
    assert "breite" in fault.why
    assert "nearest" not in fault.why
    assert "dataset prompt_completion x.jsonl --columns PROMPT,ANSWER -o NEW.jsonl" in fault.fix


@pytest.mark.parametrize(
    ("row", "name", "missing"),
    [
        ({"instruct": "a", "zzz": 3}, "alpaca", "the row has no 'instruction'"),
        ({"instruction": "a"}, "alpaca", "the row has no 'output' or 'response' or 'completion'"),
        ({"question": "a", "zzz": 3}, "prompt_completion", "the row has no 'completion' or 'response' or 'answer'"),
        ({"messages": [{"speaker": "user", "text": "a"}]}, "chatml", "a turn has no 'role'"),
        ({"Conversation": 3}, "sharegpt", "the row has no 'messages' or 'conversations'"),
        ({"context": "a", "answers": 3}, "squad", "the row has no 'question'"),
    ],
)
def test_of_unknown_columns_the_nearest_format_is_named_with_what_is_missing(row: Any, name: str, missing: str) -> None:
    fault = unknown(row)
    assert f"{name} comes nearest: {missing}" in fault.why
    assert f"what {name} needs: {format_named(name).needs}" in fault.fix  # type: ignore[arg-type]
    assert ("--columns" in fault.fix) == (len(row) > 1)


@pytest.mark.parametrize(("role", "said"), [("role", "content"), ("role", "text"), ("from", "value")])
def test_rows_that_are_single_turns_are_neither_texts_nor_pairs(role: str, said: str) -> None:
    fault = unknown(*({role: speaker, said: "Is it so?"} for speaker in ("user", "assistant")))
    assert fault.what == "each row is a single turn, not a conversation"
    assert '{"messages": [' in fault.fix
    for other in ({"role": "narrator", "text": "It was so."}, {"role": "assistant", "text": "It was so."}):
        assert detect_format([other] * 3, where="x.jsonl").format.name == "completion"


def test_a_mixture_of_formats_is_refused() -> None:
    alpaca = {"instruction": "a", "output": "b"}
    with pytest.raises(FineTuneError, match=r"mixture of alpaca \(60%\) and chatml \(40%\)"):
        detect_format([alpaca] * 6 + [{"messages": [{"role": "user", "content": "a"}]}] * 4, where="x.jsonl")


@pytest.mark.parametrize("text", ["text", "sentence", "input"])
def test_a_few_odd_rows_do_not_hide_the_format(text: str) -> None:
    rows = [{text: "a", "label": 1}] * 9 + [{text: "a"}]
    detection = detect_format(rows, where="x.csv")
    assert detection.format.name == "prompt_completion"
    assert "9 of 10 rows" in detection.evidence[0]
    assert "'label' is taken as the answer" in detection.evidence
