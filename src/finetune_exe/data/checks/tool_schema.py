"""Calls held against the tools that the row offers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import call, turns
from finetune_exe.data.checks.row import RowView
from finetune_exe.data.checks.tools import called_functions
from finetune_exe.text.conversation import Conversation

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
"""What a value of each type of JSON Schema is in Python; other names of types say nothing here."""


class _Called(NamedTuple):
    """A call, as far as it can be read."""

    name: str
    arguments: Mapping[str, Any] | None


def _offered(row: RowView) -> object:
    """Give the tools of a row as its file has them, read where they are written as JSON text; None without any."""
    tools = row.conversation.extra.get("tools")
    if not isinstance(tools, str):
        return tools
    return json.loads(tools) if tools.strip() else []


def _functions(tools: object) -> dict[str, Mapping[str, Any]] | None:
    """Map the names of tools to what they say of themselves, or give None where they are laid out in another way."""
    if isinstance(tools, dict):
        tools = [tools]
    if not isinstance(tools, list):
        return None
    functions: dict[str, Mapping[str, Any]] = {}
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return None
        functions[function["name"]] = function
    return functions


def _calls(row: RowView) -> Iterator[_Called]:
    for called in called_functions(row):
        name, arguments = called.get("name"), called.get("arguments", called.get("parameters"))
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                arguments = None
        if isinstance(name, str):
            yield _Called(name, arguments if isinstance(arguments, dict) else None)


def _tools_not_json(row: RowView) -> str | None:
    if "tools" not in row.conversation.extra:
        return None
    try:
        _offered(row)
    except (ValueError, RecursionError):
        return shorten(str(row.conversation.extra["tools"]))
    return None


def _known(row: RowView) -> dict[str, Mapping[str, Any]] | None:
    """Give the tools that a row offers; None where it has no such column, or one that cannot be read."""
    if row.layout != "turns" or row.conversation.extra.get("tools") is None:
        return None
    try:
        return _functions(_offered(row))
    except (ValueError, RecursionError):
        return None


def _unknown_tool(row: RowView) -> str | None:
    functions = _known(row)
    if functions is None:
        return None
    for called in _calls(row):
        if called.name not in functions:
            return f"{called.name}, where there are: {', '.join(sorted(functions)) or 'none'}"[:200]
    return None


def _arguments_invalid(row: RowView) -> str | None:
    functions = _known(row)
    if not functions:
        return None
    for called in _calls(row):
        schema = functions.get(called.name, {}).get("parameters")
        if called.arguments is not None and isinstance(schema, dict):
            fault = _fault(called.arguments, schema)
            if fault is not None:
                return f"{called.name}: {fault}"
    return None


def _fault(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> str | None:
    """Say what is wrong with arguments, or give None: one is missing, is not known, or has another type or value."""
    properties = schema.get("properties")
    required = schema.get("required")
    for name in required if isinstance(required, list) else ():
        if name not in arguments:
            return f"{name} is missing"
    if not isinstance(properties, dict):
        return None
    for name, value in arguments.items():
        if name not in properties:
            if properties and schema.get("additionalProperties") in (None, False):
                return f"{name} is no argument of it"
            continue
        wanted = properties[name]
        if isinstance(wanted, dict) and not _fits(value, wanted):
            return f"{name} is {json.dumps(value, ensure_ascii=False)[:40]}, not {_said(wanted)}"
    return None


def _fits(value: object, wanted: Mapping[str, Any]) -> bool:
    choices = wanted.get("enum")
    if isinstance(choices, list) and choices and value not in choices and value is not None:
        return False
    types = _TYPES.get(wanted["type"]) if isinstance(wanted.get("type"), str) else None
    if types is None or value is None:
        return True
    if isinstance(value, bool):
        return bool in types
    return isinstance(value, types) or (isinstance(value, float) and value.is_integer() and int in types)


def _said(wanted: Mapping[str, Any]) -> str:
    return (
        f"one of {json.dumps(wanted['enum'], ensure_ascii=False)[:60]}" if wanted.get("enum") else str(wanted["type"])
    )


_PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": _PARAMETERS}}]


def _offering(arguments: str, *, name: str = "weather", tools: object = _TOOLS) -> Conversation:
    """Make a row with a tool on offer and a call."""
    asked = turns(("user", "Weather?"), call(arguments, name=name))
    return Conversation(kind="chat", messages=asked.messages, origin=asked.origin, extra={"tools": tools})


CHECKS = (
    RowCheck(
        code="tools_not_json",
        severity="error",
        message="the list of tools is no JSON",
        fix="write it with json.dumps, or as a list",
        find=_tools_not_json,
        layouts=frozenset({"turns"}),
        example=_offering("{}", tools='[{"name": "weather"'),
        counterexample=_offering("{}", tools='[{"name": "weather"}]'),
    ),
    RowCheck(
        code="unknown_tool",
        severity="error",
        message="a tool is called that is not among those on offer",
        fix="correct its name, add the tool to the list, or drop the row",
        find=_unknown_tool,
        layouts=frozenset({"turns"}),
        usual=0.2,
        example=_offering('{"city": "Oslo"}', name="get_wether"),
        counterexample=_offering('{"city": "Oslo"}'),
    ),
    RowCheck(
        code="tool_arguments_invalid",
        severity="error",
        message="a call does not fit what its tool asks for: an argument is missing, unknown or of another type",
        fix="correct the arguments, or what the tool says of its parameters",
        find=_arguments_invalid,
        layouts=frozenset({"turns"}),
        usual=0.2,
        example=_offering('{"town": "Oslo"}'),
        counterexample=_offering('{"city": "Oslo"}'),
    ),
)
