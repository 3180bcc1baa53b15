"""A row as the checks see it: prompt, answers and all its text, each found once."""

from __future__ import annotations

from finetune_exe.data.layout import Layout, layout_of
from finetune_exe.text.conversation import Conversation
from finetune_exe.text.end_marks import without_end_marks
from finetune_exe.text.formats.dialogue_marks import turns_in
from finetune_exe.text.formats.marked_turns import known_forms
from finetune_exe.text.tool_calls import all_said

_ASCII, _BEYOND = bytes(range(128)), bytes(range(128, 256))
_NO_SIGNS = _BEYOND + b" abcdefghijklmnopqrstuvwxyz"


class RowView:
    """One conversation, with the parts that several checks look at.

    Attributes:
        layout: How the row is laid out in its file.
        messages: All turns in order; of a text, the text as one.
        answers: What the assistant says, turn by turn; of a text, the text.
        answer: The last of `answers`, or "".
        prompt: What the user says before the last answer, or "".
        rejected: The answer that is marked as the worse one; None where the row has none.
        text: All that is said and what tools are called with, a line feed between turns; a rejected answer is no part
            of it.
        is_ascii: Whether `text` is ASCII: most text faults need another character.
        signs: `text` without small letters, spaces and all that is not ASCII. It is short: a check whose fault needs
            signs, digits or capitals looks for those here first.
        foreign: All of `text` that is not ASCII.
        is_exchange: Whether there are two turns, a user's and an assistant's.
        turns: For a text that is no piece of a longer one: how it may be parted into turns, where it is a dialogue (see
            `turns_in`).
    """

    __slots__ = (
        "answer", "answers", "conversation", "foreign", "is_ascii", "is_exchange", "layout", "messages", "prompt",
        "rejected", "signs", "text", "turns",
    )  # fmt: skip

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        messages = self.messages = conversation.messages
        self.rejected = rejected_answer(conversation)
        self.layout: Layout = layout_of(conversation)
        self.is_exchange = len(messages) == 2 and messages[0].role == "user" and messages[1].role == "assistant"
        self.prompt = ""
        if self.is_exchange and self.layout != "text" and not messages[1].extra:
            self.prompt, self.answer = messages[0].content, messages[1].content
            self.answers = [self.answer]
            self.text = f"{self.prompt}\n{self.answer}"
        else:
            self.answers = [message.content for message in messages if message.role == "assistant"]
            self.answer = self.answers[-1] if self.answers else ""
            if self.layout != "text":
                asked = (message.content for message in reversed(messages) if message.role == "user")
                self.prompt = next(asked, "")
            self.text = "\n".join([all_said(message) for message in messages])
        is_record = self.layout == "text" and conversation.origin.get("column", "") is not None
        self.turns = turns_in(self.text) if is_record else None
        self.is_ascii = self.text.isascii()
        self.signs = signs_of(self.text)
        self.foreign = "" if self.is_ascii else _foreign(self.text)


def without_ends(row: RowView) -> RowView | None:
    """Give a row as it is prepared: without marks for the end behind its answers; None where it has none.

    To a dialogue that a chat template wrote, they belong as all its marks do.
    """
    if ("<" not in row.signs and "[" not in row.signs) or row.turns in known_forms():
        return None
    conversation = without_end_marks(row.conversation)
    if conversation is row.conversation:
        return None
    prepared = RowView(conversation)
    whole = all(left.strip() or left == answer for answer, left in zip(row.answers, prepared.answers, strict=True))
    return prepared if whole else None


def signs_of(text: str) -> str:
    """Take small letters, spaces and all that is not ASCII out of a text."""
    return text.encode("utf-8", "surrogatepass").translate(None, _NO_SIGNS).decode("ascii")


def _foreign(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").translate(None, _ASCII).decode("utf-8", "surrogatepass")


def rejected_answer(conversation: Conversation) -> str | None:
    """Give the last turn of the rejected answer, or None where the row has no rejected answer."""
    return conversation.rejected[-1].content if conversation.rejected else None
