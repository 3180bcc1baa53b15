"""Calls of tools that a file writes as the text of a turn of their own, as ShareGPT does: read as calls, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from finetune_exe.text.conversation import Conversation, Message
from finetune_exe.text.tool_calls import CALL_KEYS, without_calls

CALLING_ROLES = frozenset({"function_call", "tool_call"})
"""Names of the assistant's role that say its whole text is a call."""
_TEXT, _RESULT_OF = "call_text", "result_of"
"""In the layout of a turn: the text that was read as calls; the call that a result was given the name of."""


def read_calls(messages: list[Message], layouts: list[dict[str, Any]]) -> bool:
    """Put calls in place of the texts that write them, and name for each result the call it answers.

    A text is read where it is a JSON object with a name and arguments, or a list of such; any other stays as it is.
    The calls are numbered in nine letters and digits, which the strictest templates ask for.

    Args:
        messages: The turns, which are changed.
        layouts: For each turn what its format keeps of how it was written; what writes the text back is added.

    Returns:
        Whether every turn that is called a call was read as one.
    """
    all_read, number = True, 0
    waiting: list[str] = []
    for place, (message, layout) in enumerate(zip(messages, layouts, strict=True)):
        if message.role == "tool" and waiting and "tool_call_id" not in message.extra:
            messages[place] = replace(message, extra={**message.extra, "tool_call_id": waiting[0]})
            layouts[place] = {**layout, _RESULT_OF: waiting.pop(0)}
            continue
        if message.role != "tool":
            waiting = waiting if message.role == "assistant" else []
        if layout.get("role") not in CALLING_ROLES or not message.extra.keys().isdisjoint(CALL_KEYS):
            continue
        calls = _calls(message.content, first=number) if "parts" not in layout else None
        if calls is None:
            all_read = False
            continue
        number += len(calls)
        waiting += [call["id"] for call in calls]
        messages[place] = replace(message, content="", extra={"tool_calls": calls, **message.extra})
        layouts[place] = {**layout, _TEXT: message.content}
    return all_read


def as_written(message: Message, layout: dict[str, Any]) -> Message:
    """Give a turn as its file had it, if its calls are still the ones that were read there."""
    if _TEXT in layout and not message.content:
        calls = message.extra.get("tool_calls")
        first = _number(calls)
        if first is not None and calls == _calls(layout[_TEXT], first=first):
            return replace(message, content=layout[_TEXT], extra=without_calls(message.extra))
    if _RESULT_OF in layout and message.extra.get("tool_call_id") == layout[_RESULT_OF]:
        rest = {key: value for key, value in message.extra.items() if key != "tool_call_id"}
        return replace(message, extra=rest)
    return message


def calls_as_texts(conversation: Conversation) -> Conversation:
    """Give a row with the texts again that its calls were read from: for a template that writes no calls."""
    layouts: Sequence[dict[str, Any]] = conversation.origin.get("turns", ())
    shift = len(conversation.messages) - len(layouts)
    if shift not in (0, 1) or not any(_TEXT in layout for layout in layouts):
        return conversation
    written = [as_written(*pair) for pair in zip(conversation.messages[shift:], layouts, strict=True)]
    return replace(conversation, messages=(*conversation.messages[:shift], *written))


def _calls(text: str, *, first: int) -> list[dict[str, Any]] | None:
    """Read a text as calls in the form that chat templates take; None where it is nothing of the kind."""
    try:
        value = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return None
    said = value if isinstance(value, list) else [value]
    if not said or not all(_is_call(call) for call in said):
        return None
    return [
        numbered_call(call["name"], call["arguments"], f"call{number:05}")
        for number, call in enumerate(said, start=first)
    ]


def numbered_call(name: str, arguments: dict[str, Any] | str, number: str | None) -> dict[str, Any]:
    """Make a call as chat templates take it, with arguments as JSON text; without a number where None is given."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    call = {"type": "function", "function": {"name": name, "arguments": text}}
    return call if number is None else {"id": number, **call}


def _is_call(value: Any) -> bool:
    """Whether a value is a name and arguments, and nothing that would be lost."""
    if not isinstance(value, dict) or value.keys() != {"name", "arguments"} or not isinstance(value["name"], str):
        return False
    arguments = value["arguments"]
    return isinstance(arguments, dict) or (isinstance(arguments, str) and is_object(arguments))


def is_object(text: str) -> bool:
    """Whether a text is a JSON object, without NaN, which JSON does not have."""
    try:
        return isinstance(json.loads(text, parse_constant=refuse), dict)
    except (ValueError, RecursionError):
        return False


def refuse(constant: str) -> None:
    """Refuse NaN and infinity, which JSON does not have."""
    raise ValueError(constant)


def _number(calls: Any) -> int | None:
    """Give the number of the first of some calls; None where it has none of ours."""
    first = calls[0].get("id") if isinstance(calls, list) and calls and isinstance(calls[0], dict) else None
    digits = first[4:] if isinstance(first, str) and first.startswith("call") else ""
    return int(digits) if digits.isascii() and digits.isdecimal() else None
