"""Layouts beyond question and answer: pairs, judged answers, trees, seeds, passages, choices, spans, calls."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.domain.task import WRITTEN_FORMATS
from finetune_exe.errors import FineTuneError
from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.formats import FORMATS, format_named
from finetune_exe.text.formats.detect import detect_format

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
USER = {"role": "user", "content": "q"}
GOOD, BAD = {"role": "assistant", "content": "good"}, {"role": "assistant", "content": "bad"}
PAIRS: dict[str, dict[str, Any]] = {
    "texts": {"prompt": "q", "chosen": "good", "rejected": "bad"},
    "lists": {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    "whole dialogues": {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "whole dialogues beside the prompt": {"prompt": "q", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "sharegpt": {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "good"}, "rejected": {"from": "gpt", "value": "bad"},
    },
    "instruction": {"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"},
    "question": {"question": "q", "chosen": "good", "rejected": "bad", "id": 7},
    "messages with a worse answer": {"messages": [USER, GOOD], "rejected_response": "bad"},
    "query and response with a worse one": {"query": "q", "response": "good", "rejected_response": "bad"},
    "named lists": {"chosen_messages": [USER, GOOD], "rejected_messages": [USER, BAD]},
    "transcripts": {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
}  # fmt: skip


def read(name: str, row: Any) -> Conversation:
    result = format_named(name).read(row)  # type: ignore[arg-type]
    assert isinstance(result, Conversation), result
    return result


@pytest.mark.parametrize("name", PAIRS)
def test_every_layout_of_a_pair_says_the_same(name: str) -> None:
    row = PAIRS[name]
    detection = detect_format([row] * 3, where="pairs.jsonl")
    assert detection.format.name == "preference"
    conversation = read("preference", row)
    assert [(message.role, message.content) for message in conversation.messages] == [
        ("user", "q"),
        ("assistant", "good"),
    ]
    assert [(message.role, message.content) for message in conversation.rejected] == [("assistant", "bad")]
    assert conversation.extra == ({"id": 7} if "id" in row else {})
    assert format_named("preference").write(conversation) == row
    for target in FORMATS:
        if target.name != "preference":
            assert isinstance(target.write(conversation), RowFault)


@given(TEXTS, TEXTS, TEXTS, st.none() | TEXTS.filter(str.strip))
def test_a_fresh_pair_reads_as_it_was_written(prompt: str, good: str, bad: str, system: str | None) -> None:
    row = {"prompt": prompt, "chosen": good, "rejected": bad, **({"system": system} if system else {})}
    conversation = read("preference", row)
    fresh = Conversation(kind="chat", messages=conversation.messages, rejected=conversation.rejected)
    written = format_named("preference").write(fresh)
    again = read("preference", written)
    assert (again.messages, again.rejected) == (conversation.messages, conversation.rejected)


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"prompt": "q", "chosen": "a"}, "missing_key"),
        ({"prompt": "q", "rejected": "a"}, "missing_key"),
        ({"chosen": "a", "rejected": "b"}, "missing_key"),
        ({"prompt": "q", "chosen": None, "rejected": "b"}, "null_content"),
        ({"prompt": "q", "chosen": 3, "rejected": "b"}, "non_string_content"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "non_string_content"),
        ({"prompt": "q", "chosen": {"content": "a"}, "rejected": "b"}, "missing_role"),
        (["a"], "bare_array"),
    ],
)
def test_faults_of_pairs_have_names(row: Any, code: str) -> None:
    fault = format_named("preference").read(row)
    assert isinstance(fault, RowFault)
    assert fault.code == code


def test_a_pair_in_two_styles_is_read_and_noted() -> None:
    conversation = read("preference", {"prompt": "q", "chosen": GOOD, "rejected": "bad"})
    assert conversation.notes == ("schema_mixed",)
    assert conversation.messages[-1].content == "good"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "completion": "a", "label": False},
        {"messages": [USER, GOOD], "label": True},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "kto_tag": False, "id": 1},
    ],
)
def test_judged_answers_keep_their_label(row: dict[str, Any]) -> None:
    assert detect_format([row], where="kto.jsonl").format.name == "kto"
    conversation = read("kto", row)
    assert conversation.label is row.get("label", row.get("kto_tag"))
    assert format_named("kto").write(conversation) == row
    fresh = format_named("kto").write(
        Conversation(kind="chat", messages=conversation.messages, label=conversation.label)
    )
    assert read("kto", fresh).messages == conversation.messages


READ_ONLY: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "reply_tree",
        {"prompt": {"text": "q", "role": "prompter", "replies": [
            {"text": "worse", "role": "assistant", "rank": 1, "replies": []},
            {"text": "best", "role": "assistant", "rank": 0, "replies": [{"text": "and?", "role": "prompter", "replies": []}]},
        ]}},
        ["q", "best"],
    ),
    ("seed_tasks", {"id": 1, "instruction": "Sum", "instances": [{"input": "1 2", "output": "3"}]}, ["Sum\n\n1 2", "3"]),
    ("squad", {"context": "C", "question": "Q?", "answers": {"text": ["A", "B"], "answer_start": [0, 1]}}, ["C\n\nQ?", "A"]),
    ("squad", {"context": "C", "question": "Q?", "answers": [{"text": "A", "answer_start": 0}]}, ["C\n\nQ?", "A"]),
    ("multiple_choice", {"question": "Q?", "choices": ["x", "y"], "answer": 1}, ["Q?\n\nA. x\nB. y", "B. y"]),
    ("multiple_choice", {"question": "Q?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "A"}, ["Q?\n\nA. x\nB. y", "A. x"]),
    ("multiple_choice", {"premise": "P", "choice1": "x", "choice2": "y", "question": "cause", "label": 0}, ["P\n\ncause\n\nA. x\nB. y", "A. x"]),
    ("annotated", {"text": "to Oslo", "entities": [{"city": "Oslo"}]}, ["to Oslo", '{"entities": [{"city": "Oslo"}]}']),
    ("verified_prompts", {"prompt": [USER], "reward_model": {"ground_truth": "72"}}, ["q", "72"]),
    ("function_calls", {"question": [[USER]], "function": [{"name": "f"}], "ground_truth": [{"f": {}}]}, ["q", '[{"f": {}}]']),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "said"), READ_ONLY, ids=[name for name, _, _ in READ_ONLY])
def test_layouts_of_known_sources_become_turns(name: str, row: dict[str, Any], said: list[str]) -> None:
    assert detect_format([row], where="x.jsonl").format.name == name
    conversation = read(name, row)
    assert [message.content for message in conversation.messages] == said
    assert format_named(name).write(conversation) == row  # type: ignore[arg-type]
    changed = Conversation(
        kind="chat", messages=(*conversation.messages, Message(role="user", content="x")), origin=conversation.origin
    )
    assert isinstance(format_named(name).write(changed), RowFault)  # type: ignore[arg-type]
    chat = format_named("chatml").write(conversation)
    assert isinstance(chat, dict)
    assert read("chatml", chat).messages == conversation.messages


def test_the_formats_that_are_written_are_those_a_user_may_ask_for() -> None:
    said = (Message(role="user", content="q"), Message(role="assistant", content="a"))
    chat = Conversation(kind="chat", messages=said)
    fresh = (
        chat,
        Conversation(kind="text", messages=said[1:]),
        replace(chat, rejected=(Message(role="assistant", content="b"),)),
        replace(chat, label=True),
    )
    written = [entry.name for entry in FORMATS if any(not isinstance(entry.write(row), RowFault) for row in fresh)]
    assert tuple(written) == WRITTEN_FORMATS


@pytest.mark.parametrize(
    ("row", "notes"),
    [
        ({"messages": [{"role": "human", "content": "q"}, {"role": "gpt", "content": "a"}]}, ("role_name_variant",)),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, GOOD]}, ("content_parts",)),
        ({"messages": [USER, {**GOOD, "name": "x", "weight": 1}]}, ("extra_message_key",)),
        ({"messages": [{**USER, "name": "x"}, {**GOOD, "weight": 1}]}, ()),
        ({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, {"role": "tool", "tool_call_id": "1", "content": "r"}]}, ()),
        ({"messages": json.dumps([USER, GOOD])}, ("messages_as_json_string",)),
        ({"messages": [{"role": "developer", "content": "s"}, USER, GOOD]}, ()),
    ],
)  # fmt: skip
def test_oddities_of_turns_are_noted_and_read(row: dict[str, Any], notes: tuple[str, ...]) -> None:
    conversation = read("chatml", row)
    assert conversation.notes == notes
    assert format_named("chatml").write(conversation) == row


@pytest.mark.parametrize(
    ("row", "noted"),
    [
        ({"instruction": json.dumps({"instruction": "a", "input": "", "output": "b"}), "output": "b"}, True),
        ({"instruction": "a", "output": json.dumps({"response": "b"})}, True),
        ({"instruction": "Answer as JSON: a", "output": json.dumps({"response": "b"})}, False),
        ({"instruction": "Give JSON", "output": json.dumps({"name": "Ann", "age": 3})}, False),
        ({"instruction": "Give JSON", "output": json.dumps({"text": "Ann", "age": 3})}, False),
        ({"instruction": "a", "output": "{b}"}, False),
    ],
)
def test_a_row_inside_a_text_is_noted(row: dict[str, Any], noted: bool) -> None:
    assert read("alpaca", row).notes == (("json_in_string",) if noted else ())


QUESTIONS = [f"What is the capital of land {n}?" for n in range(12)]
ANSWERS = [f"The capital of land {n} is town {n * 7}." for n in range(12)]


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("frage", "antwort"), (QUESTIONS, ANSWERS)),
        (("antwort", "frage"), (ANSWERS, QUESTIONS)),
        (("a", "b"), (QUESTIONS, ANSWERS)),
        (("zzz", "aaa"), (ANSWERS, QUESTIONS)),
        (("UserTurn", "BotTurn"), (ANSWERS, ANSWERS[::-1])),
        (("body", "kind"), (ANSWERS, ["spam", "ham"] * 6)),
        (("src_text", "tgt_text"), (ANSWERS, ANSWERS[::-1])),
    ],
)
def test_columns_of_unknown_names_are_told_by_what_they_hold(
    names: tuple[str, str], columns: tuple[list[str], list[str]]
) -> None:
    rows = [
        {"id": n, names[0]: first, names[1]: second} for n, (first, second) in enumerate(zip(*columns, strict=True))
    ]
    detection = detect_format(rows, where="x.jsonl")
    asks = 1 if columns[1] is QUESTIONS else 0
    conversation = detection.format.read(rows[0])
    assert isinstance(conversation, Conversation)
    assert [message.content for message in conversation.messages] == [rows[0][names[asks]], rows[0][names[1 - asks]]]
    assert repr(names[asks]) in detection.evidence[0]
    assert "prompt" in detection.evidence[0]
    assert detection.format.write(conversation) == rows[0]


def test_columns_that_do_not_tell_are_asked_about_once() -> None:
    rows = [{"left": f"Text number {n}.", "right": f"Another text {n * 3}."} for n in range(12)]
    with pytest.raises(FineTuneError) as caught:
        detect_format(rows, where="x.jsonl")
    assert caught.value.code == "D03"
    assert "which is it?" in caught.value.what
    assert "left" in caught.value.fix
    assert "right" in caught.value.fix
