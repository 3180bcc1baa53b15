"""Conversations as JSON, for the prepared dataset and whoever reads it."""

from __future__ import annotations

from typing import Any

from finetune_exe.text.conversation import Conversation, Message


def to_json(conversation: Conversation) -> dict[str, Any]:
    """Turn a conversation into JSON values; what only its source format needs (`origin`) is left out."""
    return {
        "kind": conversation.kind,
        "messages": [_turn(message) for message in conversation.messages],
        **({"rejected": [_turn(message) for message in conversation.rejected]} if conversation.rejected else {}),
        **({"extra": conversation.extra} if conversation.extra else {}),
    }


def _turn(message: Message) -> dict[str, Any]:
    return {
        "role": message.role,
        "content": message.content,
        **({} if message.learn else {"learn": False}),
        **({"extra": message.extra} if message.extra else {}),
    }


def from_json(value: dict[str, Any]) -> Conversation:
    """Turn the JSON values of `to_json` back into the conversation.

    Raises:
        msgspec.ValidationError: `value` is something else.
    """
    import msgspec

    return msgspec.convert(value, Conversation)
