"""Marks for the end that stand in the text of answers."""

from __future__ import annotations

import pytest

from finetune_exe.text.conversation import Conversation, Message
from finetune_exe.text.end_marks import END_MARKS, without_end_marks


def chat(*said: str) -> Conversation:
    """Make a conversation of what the two say in turn."""
    roles = ("user", "assistant") * len(said)
    turns = tuple(Message(role=role, content=text) for role, text in zip(roles, said, strict=False))
    return Conversation(kind="chat", messages=turns)


@pytest.mark.parametrize("mark", END_MARKS)
def test_marks_are_taken_off_the_ends_of_all_answers_and_nowhere_else(mark: str) -> None:
    cleaned = without_end_marks(chat(f"q {mark}", f"one {mark} two{mark}", "q", f"three{mark} {mark}\n"))
    assert [message.content for message in cleaned.messages] == [f"q {mark}", f"one {mark} two", "q", "three"]
    assert without_end_marks(cleaned) is cleaned


def test_what_the_model_knows_is_a_mark_too() -> None:
    marked = chat("a", "fox<|fin|> <|im_end|>")
    assert without_end_marks(marked).messages[1].content == "fox<|fin|> "
    assert without_end_marks(marked, {"<|fin|>"}).messages[1].content == "fox"


@pytest.mark.parametrize(
    "answer", ["fox ", "It costs <s>9</s>", "The mark is <|endoftext|>.", "a </s> b", "fox<|fin|>", ""]
)
def test_other_answers_stay_as_they_are(answer: str) -> None:
    row = chat("a", answer)
    assert without_end_marks(row) is row
