"""Calls of tools and what comes back from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import call, turns
from finetune_exe.data.checks.row import RowView
from finetune_exe.text.conversation import Message
from finetune_exe.text.formats.written_calls import CALLING_ROLES

_CALL_MARKS = ("function", "tool", "call", "action", "{", "[", "(")
"""What stands in the text of an answer that calls a tool in words of its own."""


def _calls(message: Message) -> list[Any]:
    calls = message.extra.get("tool_calls") or []
    single = message.extra.get("function_call")
    return [*(calls if isinstance(calls, list) else [calls]), *([single] if single else [])]


def _is_read(message: Message) -> bool:
    """Whether the calls of a turn stand apart from its text."""
    return bool(message.extra) and bool(_calls(message))


def _said_roles(row: RowView) -> list[Any]:
    """Give the role names of the turns as their file has them, None for the usual ones."""
    layouts = row.conversation.origin.get("turns") or []
    names = [layout.get("role") if isinstance(layout, dict) else None for layout in layouts]
    return [None] * (len(row.messages) - len(names)) + names


def _arguments_not_json(row: RowView) -> str | None:
    if row.layout != "turns":
        return None
    for message, said in zip(row.messages, _said_roles(row), strict=False):
        if said in CALLING_ROLES and not _is_read(message) and not _is_json(message.content):
            return shorten(message.content)
        if message.extra:
            for one in _calls(message):
                function = one.get("function", one) if isinstance(one, dict) else {}
                arguments = function.get("arguments") if isinstance(function, dict) else None
                if isinstance(arguments, str) and arguments.strip() and not _is_object(arguments):
                    return shorten(arguments)
    return None


def called_functions(row: RowView) -> Iterator[dict[str, Any]]:
    """Give every call of a row as an object with a name and arguments, wherever its layout keeps them."""
    for message, said in zip(row.messages, _said_roles(row), strict=False):
        if said in CALLING_ROLES and not _is_read(message):
            try:
                value = json.loads(message.content)
            except (ValueError, RecursionError):
                continue
            yield from (one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict))
        elif message.extra:
            functions = (one.get("function", one) for one in _calls(message) if isinstance(one, dict))
            yield from (function for function in functions if isinstance(function, dict))


def _is_object(content: str) -> bool:
    """Whether a text is a JSON object, without NaN, which JSON does not have."""
    try:
        return isinstance(json.loads(content, parse_constant=_refuse), dict)
    except (ValueError, RecursionError):
        return False


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _is_json(content: str) -> bool:
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


def _call_without_result(row: RowView) -> str | None:
    if row.layout != "turns":
        return None
    said = _said_roles(row)
    for number, message in enumerate(row.messages):
        if message.role != "assistant" or not (said[number] in CALLING_ROLES or (message.extra and _calls(message))):
            continue
        following = row.messages[number + 1].role if number + 1 < len(row.messages) else None
        if following != "tool" and not (following == "assistant" and said[number + 1] in CALLING_ROLES):
            return shorten(json.dumps(_calls(message), ensure_ascii=False) if message.extra else message.content)
    return None


def _result_without_call(row: RowView) -> str | None:
    if row.layout != "turns":
        return None
    said = _said_roles(row)
    called = False
    ids: set[str] = set()
    for number, message in enumerate(row.messages):
        if message.role == "assistant":
            called = said[number] in CALLING_ROLES or bool(message.extra and _calls(message))
            called = called or any(mark in message.content.casefold() for mark in _CALL_MARKS)
            ids |= (
                {str(one.get("id")) for one in _calls(message) if isinstance(one, dict) and one.get("id")}
                if message.extra
                else set()
            )
        elif message.role == "tool" and (not called or _answers_other(message, ids)):
            return shorten(message.content)
        elif message.role in ("user", "system"):
            called = False
    return None


def _answers_other(message: Message, ids: set[str]) -> bool:
    """Whether a result names a call that nobody made."""
    named = message.extra.get("tool_call_id")
    return bool(ids) and isinstance(named, str) and named not in ids


_RESULT = Message(role="tool", content="4 C")
_WHOLE = turns(("user", "Weather?"), call('{"city": "Oslo"}'), _RESULT, ("assistant", "It is 4 C."))

CHECKS = (
    RowCheck(
        code="tool_arguments_not_json",
        severity="error",
        message="the arguments of a tool call are no JSON",
        fix="write the arguments as a JSON object",
        find=_arguments_not_json,
        layouts=frozenset({"turns"}),
        example=turns(("user", "Weather?"), call("{city: Oslo}"), _RESULT, ("assistant", "4 C.")),
        counterexample=_WHOLE,
    ),
    RowCheck(
        code="tool_call_without_result",
        severity="warning",
        message="a tool is called and no result follows",
        fix="add the tool's turn, or cut the call where the call itself is not what is to be learned",
        find=_call_without_result,
        layouts=frozenset({"turns"}),
        usual=0.1,
        example=turns(("user", "Weather?"), call('{"city": "Oslo"}')),
        counterexample=_WHOLE,
    ),
    RowCheck(
        code="tool_result_without_call",
        severity="error",
        message="a tool answers though nobody called it",
        fix="add the call, or drop the tool's turn",
        find=_result_without_call,
        layouts=frozenset({"turns"}),
        example=turns(("user", "Weather?"), _RESULT, ("assistant", "It is 4 C.")),
        counterexample=_WHOLE,
    ),
)
