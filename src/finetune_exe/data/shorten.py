"""Shorten what stands before a conversation's answers until it fits, without touching an answer that stays.

The oldest turns go first, question and answer together, but never the system turn; then the beginning of what comes
before the last answer. The shortened conversation is rendered, tokenised and proven like any other.
"""

from __future__ import annotations

from collections.abc import Sequence as Turns
from dataclasses import dataclass, replace

from finetune_exe.text.conversation import Conversation, Message
from finetune_exe.text.encode import Sequence, encode_rows
from finetune_exe.text.tokenizer import ChatTokenizer

LEAST_CHARACTERS = 20
"""A question shortened to less says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortened:
    """A conversation that fits."""

    conversation: Conversation
    sequences: tuple[Sequence, ...]
    message: str
    """What was taken away."""


def shorten(conversation: Conversation, tokenizer: ChatTokenizer, *, max_length: int) -> Shortened | None:
    """Shorten a chat that is too long.

    Args:
        conversation: The row.
        tokenizer: The base model's.
        max_length: Longest sequence, in tokens.

    Returns:
        The longest of the shortened conversations that fit, or None where the answer alone is too long.
    """
    messages = conversation.messages
    for start in _later_starts(messages):
        kept = (*_system(messages), *messages[start:])
        message = f"its first {start - len(_system(messages))} turns were cut off"
        found = _encode(replace(conversation, messages=kept), tokenizer, max_length, message)
        if found is not None:
            return found
    return _cut_question(conversation, tokenizer, max_length)


def _system(messages: Turns[Message]) -> tuple[Message, ...]:
    return tuple(messages[:1]) if messages and messages[0].role == "system" else ()


def _later_starts(messages: Turns[Message]) -> list[int]:
    """List the turns at which a shorter conversation may begin: questions that still have an answer to learn."""
    first = len(_system(messages))
    return [
        index
        for index in range(first + 1, len(messages))
        if messages[index].role == "user" and any(m.role == "assistant" and m.learn for m in messages[index:])
    ]


def _cut_question(conversation: Conversation, tokenizer: ChatTokenizer, max_length: int) -> Shortened | None:
    """Keep the last question's end, as much of it as fits."""
    messages = conversation.messages
    starts = _later_starts(messages)
    start = starts[-1] if starts else len(_system(messages))
    if start >= len(messages) or messages[start].role != "user":
        return None
    question = messages[start]
    best: Shortened | None = None
    low, high = LEAST_CHARACTERS, len(question.content) - 1
    while low <= high:
        middle = (low + high) // 2
        shorter = replace(question, content=question.content[-middle:])
        turns = (*_system(messages), shorter, *messages[start + 1 :])
        message = f"the first {len(question.content) - middle:,} characters of its question were cut off"
        found = _encode(replace(conversation, messages=turns), tokenizer, max_length, message)
        if found is None:
            high = middle - 1
            continue
        best = found
        low = middle + 1
    return best


def _encode(conversation: Conversation, tokenizer: ChatTokenizer, max_length: int, message: str) -> Shortened | None:
    [encoded] = encode_rows([conversation], tokenizer, max_length=max_length)
    if encoded.fault is not None:
        return None
    return Shortened(conversation=conversation, sequences=encoded.sequences, message=message)
