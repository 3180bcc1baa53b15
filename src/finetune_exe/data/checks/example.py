"""Short ways to write the example rows of the checks."""

from __future__ import annotations

from dataclasses import replace

from finetune_exe.text.conversation import Conversation, Message, Role


def asked(prompt: str, answer: str) -> Conversation:
    """Make a row with a question and an answer in columns."""
    messages = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
    return Conversation(
        kind="chat", messages=messages, origin={"format": "alpaca", "columns": {}, "prompt_length": len(prompt)}
    )


def labelled(text: str, label: str) -> Conversation:
    """Make a row with a text and its label."""
    messages = (Message(role="user", content=text), Message(role="assistant", content=label))
    return Conversation(
        kind="chat",
        messages=messages,
        origin={"format": "prompt_completion", "columns": {"prompt": "text", "answer": "label"}},
    )


def turns(*said: tuple[Role, str] | Message) -> Conversation:
    """Make a row with a list of turns."""
    messages = (turn if isinstance(turn, Message) else Message(role=turn[0], content=turn[1]) for turn in said)
    return Conversation(kind="chat", messages=tuple(messages), origin={"format": "chatml", "turns": []})


def call(arguments: str, *, name: str = "weather", call_id: str = "c1") -> Message:
    """Make a turn in which the assistant calls a tool."""
    function = {"name": name, "arguments": arguments}
    calls = [{"id": call_id, "type": "function", "function": function}]
    return Message(role="assistant", content="", extra={"tool_calls": calls})


def text(content: str) -> Conversation:
    """Make a row that is one text."""
    return Conversation(kind="text", messages=(Message(role="assistant", content=content),))


def pair(prompt: str, chosen: str, rejected: str) -> Conversation:
    """Make a row with a better and a worse answer."""
    shared = asked(prompt, chosen)
    return replace(shared, origin={"format": "preference"}, rejected=(Message(role="assistant", content=rejected),))
