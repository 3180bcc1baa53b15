"""A row as the checks see it: prompt, answers and all its text, each found once."""

from __future__ import annotations

from typing import Literal

from finetune_exe.text.conversation import Conversation, Message

LABEL_COLUMNS = frozenset({
    "label", "labels", "category", "categories", "intent", "intents", "class", "sentiment", "topic", "target", "tag",
    "label_text",
    "label_name", "polarity", "emotion", "stars", "rating",
})  # fmt: skip
"""Names of answer columns that hold a label."""
Layout = Literal["text", "columns", "turns", "preference", "classification"]
"""One text; question and answer in columns; a list of turns; a chosen and a rejected answer; a text and its label."""


class RowView:
    """One conversation, with the parts that several checks look at.

    Attributes:
        layout: How the row is laid out in its file.
        messages: All turns in order; of a text, the text as one.
        answers: What the assistant says, turn by turn; of a text, the text.
        answer: The last of `answers`, or "".
        prompt: What the user says before the last answer, or "".
        rejected: The answer that is marked as the worse one; None where the row has none.
        text: All that is said, a line feed between turns; a rejected answer is no part of it.
        is_ascii: Whether `text` is ASCII: most text faults need another character.
    """

    __slots__ = ("answer", "answers", "conversation", "is_ascii", "layout", "messages", "prompt", "rejected", "text")

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.messages: tuple[Message, ...] = conversation.messages
        self.answers = [message.content for message in self.messages if message.role == "assistant"]
        self.answer = self.answers[-1] if self.answers else ""
        self.rejected = rejected_answer(conversation)
        self.layout = layout_of(conversation)
        self.prompt = ""
        if self.layout != "text":
            for message in reversed(self.messages):
                if message.role == "user":
                    self.prompt = message.content
                    break
        self.text = "\n".join([message.content for message in self.messages])
        self.is_ascii = self.text.isascii()


def layout_of(conversation: Conversation) -> Layout:
    """Say how a conversation was laid out in its file."""
    if conversation.kind == "text":
        return "text"
    origin = conversation.origin
    if origin.get("format") == "preference":
        return "preference"
    columns = origin.get("columns")
    if columns is None:
        return "turns"
    return "classification" if columns.get("answer", "").casefold() in LABEL_COLUMNS else "columns"


def rejected_answer(conversation: Conversation) -> str | None:
    """Give the last turn of the rejected answer, or None where the row has no rejected answer."""
    return conversation.rejected[-1].content if conversation.rejected else None
