"""Rows for other trainers: nothing is lost without a word, and what is written says what this program learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from tests.tiny import TEMPLATES, write_tokenizer

from finetune_exe.cli.dataset import command
from finetune_exe.export.configuration_file import ConfigurationFile
from finetune_exe.export.targets import EXPORTERS
from finetune_exe.export.trainer_rows import TRAINER_ROWS, TrainerName
from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.encode import encode
from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer

TWO_ANSWERS = (
    Message(role="system", content="be quick"),
    Message(role="user", content="one"),
    Message(role="assistant", content="two"),
    Message(role="user", content="three"),
    Message(role="assistant", content="four"),
)
CHAT = Conversation(kind="chat", messages=TWO_ANSWERS)
UNLEARNED = Conversation(
    kind="chat", messages=(*TWO_ANSWERS[:2], Message(role="assistant", content="two", learn=False), *TWO_ANSWERS[3:])
)
TEXT = Conversation(kind="text", messages=(Message(role="assistant", content="a text"),))
CALL = Conversation(
    kind="chat",
    messages=(
        Message(role="user", content="what is the time?"),
        Message(role="assistant", content="", extra={"tool_calls": [{"function": {"name": "now", "arguments": "{}"}}]}),
        Message(role="tool", content="noon"),
        Message(role="assistant", content="noon"),
    ),
    extra={"tools": [{"type": "function", "function": {"name": "now"}}]},
)
PAIR = Conversation(kind="chat", messages=TWO_ANSWERS, rejected=(Message(role="assistant", content="five"),))
TWO_USERS = Conversation(kind="chat", messages=(*TWO_ANSWERS[:2], *TWO_ANSWERS[1:3]))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    folder = write_tokenizer(tmp_path_factory.mktemp("tokenizer"), template=TEMPLATES["chatml"])
    return load_tokenizer(folder, chat_template=None)


def test_the_command_offers_the_trainers_that_are_known() -> None:
    export = next(option for option in command.params if option.name == "export")
    assert set(export.type.choices) == {"parquet", "datasets", *TRAINER_ROWS}  # type: ignore[attr-defined]
    assert set(TRAINER_ROWS) == set(get_args(TrainerName)) <= {entry.name for entry in EXPORTERS} | {"openai"}


@pytest.mark.parametrize("trainer", TRAINER_ROWS)
def test_plain_conversations_are_carried_by_all(trainer: TrainerName, tokenizer: ChatTokenizer) -> None:
    written = TRAINER_ROWS[trainer].write(CHAT, tokenizer)
    assert not isinstance(written, RowFault)
    assert len(written) == (2 if trainer in ("mlx", "litgpt") else 1)
    if trainer != "litgpt":
        turns = [{"role": turn.role, "content": turn.content} for turn in TWO_ANSWERS]
        assert written[-1] == {"messages": turns}


@pytest.mark.parametrize(
    ("trainer", "mark"), [("axolotl", ("training", False)), ("ms-swift", ("loss", False)), ("openai", ("weight", 0))]
)
def test_an_answer_not_to_be_learned_bears_the_mark_of_the_trainer(
    trainer: TrainerName, mark: tuple[str, object], tokenizer: ChatTokenizer
) -> None:
    written = TRAINER_ROWS[trainer].write(UNLEARNED, tokenizer)
    assert not isinstance(written, RowFault)
    marked = [turn for turn in written[0]["messages"] if mark[0] in turn]
    assert marked == [{"role": "assistant", "content": "two", mark[0]: mark[1]}]


@pytest.mark.parametrize("trainer", ["llamafactory", "torchtune"])
def test_a_trainer_without_such_a_mark_is_not_given_the_row(trainer: TrainerName, tokenizer: ChatTokenizer) -> None:
    written = TRAINER_ROWS[trainer].write(UNLEARNED, tokenizer)
    assert isinstance(written, RowFault)
    assert "not to be learned" in written.message


@pytest.mark.parametrize("trainer", ["mlx", "litgpt"])
def test_of_an_answer_not_to_be_learned_no_row_is_made(trainer: TrainerName, tokenizer: ChatTokenizer) -> None:
    written = TRAINER_ROWS[trainer].write(UNLEARNED, tokenizer)
    assert not isinstance(written, RowFault)
    assert len(written) == 1
    assert "four" in str(written[0])


@pytest.mark.parametrize("trainer", TRAINER_ROWS)
def test_calls_of_tools_are_whole_or_refused(trainer: TrainerName, tokenizer: ChatTokenizer) -> None:
    written = TRAINER_ROWS[trainer].write(CALL, tokenizer)
    if trainer in ("llamafactory", "torchtune", "ms-swift"):
        assert isinstance(written, RowFault)
        assert "tool" in written.message
    elif trainer != "litgpt":
        assert not isinstance(written, RowFault)
        assert written[-1]["tools"] == CALL.extra["tools"]
        assert written[-1]["messages"][1]["tool_calls"] == CALL.messages[1].extra["tool_calls"]


@pytest.mark.parametrize("trainer", TRAINER_ROWS)
@pytest.mark.parametrize("row", [TEXT, PAIR], ids=["text", "pair"])
def test_what_holds_no_answers_to_learn_is_refused(
    row: Conversation, trainer: TrainerName, tokenizer: ChatTokenizer
) -> None:
    """Of a pair the better answer alone would be learned, which is something else."""
    assert isinstance(TRAINER_ROWS[trainer].write(row, tokenizer), RowFault)


PAIRED: tuple[TrainerName, ...] = ("axolotl", "llamafactory", "ms-swift")


@pytest.mark.parametrize("trainer", PAIRED)
@pytest.mark.parametrize(
    ("row", "why"),
    [
        (CHAT, "without a worse answer"),
        (replace(PAIR, rejected=(*PAIR.rejected, *PAIR.rejected)), "more than one turn"),
        (replace(PAIR, messages=PAIR.messages[2:3]), "more than one turn"),
        (replace(CALL, messages=CALL.messages[:2], rejected=CALL.messages[3:]), "calls a tool"),
        (replace(TWO_USERS, rejected=PAIR.rejected), "do not alternate"),
    ],
    ids=["no pair", "two answers", "no question", "tools", "two users"],
)  # fmt: skip
def test_a_pair_that_a_trainer_cannot_be_given_is_refused(
    row: Conversation, why: str, trainer: TrainerName, tokenizer: ChatTokenizer
) -> None:
    write = TRAINER_ROWS[trainer].write_pair
    assert write is not None
    written = write(row, tokenizer)
    if (why == "calls a tool" and trainer == "axolotl") or (why == "do not alternate" and trainer != "llamafactory"):
        assert not isinstance(written, RowFault), "text carries it, and others take turns as they come"
    else:
        assert isinstance(written, RowFault)
        assert why in written.message


def test_trainers_whose_files_are_written_for_pairs_are_given_pairs() -> None:
    able = {entry.name for entry in EXPORTERS if isinstance(entry, ConfigurationFile) and entry.pairs is not None}
    assert able == {name for name, rows in TRAINER_ROWS.items() if rows.write_pair is not None} == set(PAIRED)


@pytest.mark.parametrize("trainer", ["llamafactory", "torchtune"])
def test_turns_out_of_order_are_refused_where_the_trainer_would_drop_them(
    trainer: TrainerName, tokenizer: ChatTokenizer
) -> None:
    written = TRAINER_ROWS[trainer].write(TWO_USERS, tokenizer)
    assert isinstance(written, RowFault)
    assert "alternate" in written.message


@pytest.mark.parametrize("name", ["chatml", "trims_content", "renames_roles", "brackets"])
def test_rendered_rows_hold_the_very_tokens_this_program_learns(name: str, tmp_path: Path) -> None:
    """LitGPT joins the tokens of prompt and answer and learns the latter: they must be ours."""
    tokenizer = load_tokenizer(write_tokenizer(tmp_path, template=TEMPLATES[name]), chat_template=None)
    spoken = TWO_ANSWERS[1:]
    written = TRAINER_ROWS["litgpt"].write(Conversation(kind="chat", messages=spoken), tokenizer)
    assert not isinstance(written, RowFault)
    for number, row in zip((2, 4), written, strict=True):
        ours = encode(Conversation(kind="chat", messages=spoken[:number]), tokenizer, max_length=500)
        assert not isinstance(ours, RowFault)
        before, answer = (tokenizer.encode_batch([row[key]])[0].ids for key in ("instruction", "output"))
        assert answer, "there is an answer"
        last = ours[-1].ranges[-1]
        assert list(ours[-1].tokens[: last.end]) == [*before, *answer, tokenizer.eos_token_id]
        assert len(before) == last.start


def test_a_token_that_the_tokenizer_adds_by_itself_does_not_stand_there_twice(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, template=TEMPLATES["brackets"])
    content = json.loads((folder / "tokenizer.json").read_text())
    number = next(token["id"] for token in content["added_tokens"] if token["content"] == "<s>")
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [number], "tokens": ["<s>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = load_tokenizer(folder, chat_template=None)
    written = TRAINER_ROWS["litgpt"].write(Conversation(kind="chat", messages=TWO_ANSWERS[1:3]), tokenizer)
    assert not isinstance(written, RowFault)
    assert not written[0]["instruction"].startswith("<s>")
    assert tokenizer.tokenizer.encode(written[0]["instruction"]).ids.count(number) == 1
