"""Calls of tools in a turn: as templates want them, and where in the text they end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from finetune_exe.text.conversation import Message
from finetune_exe.text.thinking import thinking_of

CALL_KEYS = ("tool_calls", "function_call")


def template_turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Give turns as chat templates read them: arguments of calls are objects, though services write them as text.

    A template writes arguments with `tojson`; of a text it would make a text in quotes, which no server reads back as
    arguments. Servers parse them likewise before they render.

    Source: vLLM, entrypoints/chat_utils.py, _postprocess_messages (2025); transformers, chat templating guide (2025).
    """
    return [
        {"role": message.role, "content": message.content, **(_parsed(message.extra) if message.extra else {})}
        for message in messages
    ]


def called_names(message: Message) -> list[str]:
    """List the names of the tools that a turn calls."""
    return [name for function in _functions(message.extra) if isinstance(name := function.get("name"), str)]


def all_said(message: Message) -> str:
    """Give what a turn says, what it thinks before, and a line of JSON for each call: name and arguments, no number."""
    if not message.extra:
        return message.content
    calls = [_parsed_call(function) for function in _functions(message.extra)]
    written = (json.dumps(call, ensure_ascii=False, sort_keys=True, default=str) for call in calls)
    thought = "" if message.content.lstrip().startswith("<think>") else thinking_of(message)
    return "\n".join(filter(None, (thought, message.content, *written)))


def is_call_alone(message: Message) -> bool:
    """Whether a turn calls tools and says nothing beside it."""
    return not message.content.strip() and bool(called_names(message))


def without_calls(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Give the other keys of a turn that has calls."""
    return {key: value for key, value in extra.items() if key not in CALL_KEYS}


def mark_last_name(extra: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """Write a mark behind the name of the last tool that is called."""
    copied: dict[str, Any] = json.loads(json.dumps(extra))
    last = list(_functions(copied))[-1]
    last["name"] += mark
    return copied


def _functions(extra: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give each call's object with `name` and `arguments`, in their order."""
    calls = extra.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            function = call.get("function", call)
            if isinstance(function, dict):
                yield function
    single = extra.get("function_call")
    if isinstance(single, dict):
        yield single


def _parsed(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put objects in place of arguments that are the JSON text of one."""
    if not any(isinstance(function.get("arguments"), str) for function in _functions(extra)):
        return extra
    copied: dict[str, Any] = json.loads(json.dumps(extra))
    for function in _functions(copied):
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            function["arguments"] = _object_or_text(arguments)
    return copied


def _parsed_call(function: Mapping[str, Any]) -> Mapping[str, Any]:
    arguments = function.get("arguments")
    return {**function, "arguments": _object_or_text(arguments)} if isinstance(arguments, str) else function


def _object_or_text(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text
