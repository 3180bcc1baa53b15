"""The rules that OpenAI's fine-tuning has for a chat file, line by line.

Source: developers.openai.com, guide to supervised fine-tuning, and the types of the openai package 3.57, read on
2026-11-26. The service says no more than the first fault; here all are found before anything is sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

MIN_ROWS = 10
MOST_BYTES = 512 << 20
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_ROW_KEYS = {"messages", "tools", "parallel_tool_calls", "functions"}
_TURN_KEYS = {"role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal"}
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class RuleFault(NamedTuple):
    """One rule that a line breaks."""

    line: int
    code: str
    message: str


def row_faults(text: str, line: int) -> tuple[dict[str, Any] | None, list[RuleFault]]:
    """Read a line and hold it against the rules.

    Returns:
        The row, None where it is no JSON object, and every rule that it breaks.
    """
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as fault:
        return None, [RuleFault(line, "not_json", f"the line is no JSON: {fault}")]
    if not isinstance(row, dict):
        return None, [RuleFault(line, "not_an_object", "the line is no JSON object")]
    return row, [RuleFault(line, code, message) for code, message in _row(row)]


def _row(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    odd = sorted(set(row) - _ROW_KEYS)
    if odd:
        yield "unknown_key", f"the service knows no {', '.join(map(repr, odd))} beside messages, tools and functions"
    turns = row.get("messages")
    if not isinstance(turns, list) or not turns:
        yield "no_messages", "there is no list 'messages' with turns in it"
        return
    offered = set(_offered(row.get("tools")))
    if row.get("tools") is not None and not offered:
        yield "bad_tools", '\'tools\' is no list of {"type": "function", "function": {"name": ...}}'
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict):
            yield "not_a_turn", f"turn {number} is no object"
            continue
        yield from ((code, f"turn {number}: {message}") for code, message in _turn(turn, offered))
    answers = [turn for turn in turns if isinstance(turn, dict) and turn.get("role") == "assistant"]
    if turns and (not isinstance(turns[-1], dict) or turns[-1].get("role") != "assistant"):
        yield "last_is_no_answer", "the last turn is not the assistant's"
    if not any(turn.get("weight", 1) for turn in answers):
        yield "nothing_to_learn", "no answer has a weight other than 0"


def _turn(turn: dict[str, Any], offered: set[str]) -> Iterator[tuple[str, str]]:
    role, content = turn.get("role"), turn.get("content")
    odd = sorted(set(turn) - _TURN_KEYS)
    if odd:
        yield "unknown_key", f"the service knows no {', '.join(map(repr, odd))} in a turn"
    if role not in _ROLES:
        yield "unknown_role", f"the role {role!r} is none of {', '.join(_ROLES)}"
    if "weight" in turn and (role != "assistant" or turn["weight"] not in (0, 1) or isinstance(turn["weight"], bool)):
        yield "bad_weight", "a weight is 0 or 1, and an answer's alone"
    if "name" in turn and not (isinstance(turn["name"], str) and _NAME.fullmatch(turn["name"])):
        yield "bad_name", "a name has up to 64 letters, digits, - and _"
    if role == "tool" and not isinstance(turn.get("tool_call_id"), str):
        yield "no_call_id", "a tool's answer names no tool_call_id"
    calls = turn.get("tool_calls")
    if calls is not None:
        yield from _calls(calls, offered)
    if not _is_content(content) and not (content is None and (calls or turn.get("function_call"))):
        yield "no_content", "content is neither a text nor a list of parts"
    elif role == "assistant" and content == "" and not calls:
        yield "empty_answer", "the answer is empty"


def _calls(calls: Any, offered: set[str]) -> Iterator[tuple[str, str]]:
    named = [
        call["function"]["name"]
        for call in (calls if isinstance(calls, list) else [])
        if isinstance(call, dict) and isinstance(call.get("id"), str) and _is_function(call)
        and isinstance(call["function"].get("arguments"), str)
    ]  # fmt: skip
    if not isinstance(calls, list) or len(named) != len(calls) or not calls:
        yield "bad_call", "a call needs id, type 'function', and a function with name and arguments as a text"
    missing = sorted(set(named) - offered)
    if missing:
        yield "unknown_tool", f"it calls {', '.join(missing)}, which 'tools' does not offer"


def _is_function(value: dict[str, Any]) -> bool:
    function = value.get("function")
    return value.get("type") == "function" and isinstance(function, dict) and isinstance(function.get("name"), str)


def _offered(tools: Any) -> Iterator[str]:
    for tool in tools if isinstance(tools, list) else []:
        if isinstance(tool, dict) and _is_function(tool):
            yield tool["function"]["name"]


def _is_content(content: Any) -> bool:
    if isinstance(content, list):
        return bool(content) and all(
            isinstance(part, dict)
            and (
                (part.get("type") in ("text", "refusal") and isinstance(part.get(part["type"]), str))
                or (part.get("type") == "image_url" and isinstance(part.get("image_url"), dict))
            )
            for part in content
        )
    return isinstance(content, str)
