"""Marks for the end of an answer that stand in its text, as older datasets have them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from finetune_exe.text.conversation import Conversation, Message

END_MARKS = (
    "<|endoftext|>", "<|im_end|>", "</s>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<end_of_turn>",
    "<|end_of_turn|>", "<|end|>", "<|return|>", "<eos>", "<EOS>", "[EOS]", "<|EOT|>", "<|endofturn|>", "<eot>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)  # fmt: skip
"""What the templates of chat models end an answer or a text with."""
_STRUCK_OUT = ("<s>", "</s>")
"""In HTML the one opens what the other closes."""


def without_end_marks(conversation: Conversation, special_tokens: Collection[str] = ()) -> Conversation:
    """Take marks for the end off the ends of answers.

    The template writes the end of an answer itself. A mark that the model knows would teach it to stop twice, and one
    that it does not know to say the mark to its users.

    Args:
        conversation: The row.
        special_tokens: Further marks: all that the model knows.

    Returns:
        The row without them; the same object where there are none.
    """
    marks = (*END_MARKS, *special_tokens)
    messages = tuple(_without(message, marks) for message in conversation.messages)
    if all(after is before for after, before in zip(messages, conversation.messages, strict=True)):
        return conversation
    return replace(conversation, messages=messages)


def _without(message: Message, marks: tuple[str, ...]) -> Message:
    if message.role != "assistant" or not message.content.rstrip().endswith(marks):
        return message
    opened, closed = _STRUCK_OUT
    if opened in message.content:
        marks = tuple(mark for mark in marks if mark != closed)
    content = message.content
    while (mark := _at_end(content, marks)) is not None:
        content = content.rstrip().removesuffix(mark)
    return message if content == message.content else replace(message, content=content)


def _at_end(content: str, marks: tuple[str, ...]) -> str | None:
    end = content.rstrip()
    return next((mark for mark in marks if end.endswith(mark)), None)
