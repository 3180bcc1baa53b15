"""Calls of tools, their results and definitions in texts that a chat template wrote: read as what they are."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from finetune_exe.knowledge.turn_forms import TemplateTurns
from finetune_exe.text.conversation import Message
from finetune_exe.text.formats.written_calls import is_object, numbered_call, refuse
from finetune_exe.text.thinking import THINKING_KEYS

_SAID = {"name", "arguments", "parameters", "id", "type"}
"""Keys of a call in the templates of the table; any other would be lost."""
_NAMED = "[TOOL_CONTENT]"
"""What stands in a result of Mistral's behind the call that it names. Source: mistral-common, InstructTokenizerV7."""
_DECODER = json.JSONDecoder(parse_constant=refuse)
_VALUE = re.compile(r"\s*(?=[{\[])")


class Definitions(NamedTuple):
    """A text without the definitions of tools that stood in it."""

    text: str
    tools: list[Any]


class Calls(NamedTuple):
    """Turns with their calls, and whether a call was left as text because it could not be read."""

    turns: tuple[Message, ...]
    left: bool


def without_definitions(text: str, template: TemplateTurns) -> Definitions:
    """Cut out the definitions of tools that a template writes into what the system or the user says."""
    for before, behind in template.tools:
        start = text.find(before)
        if start < 0:
            continue
        tools, end = _values(text, start + len(before))
        rest = text[end:].lstrip()
        if tools and rest.startswith(behind.strip()):
            return Definitions(text[:start].removesuffix("\n\n") + rest[len(behind.strip()) :], _flat(tools))
    return Definitions(text, [])


def with_calls(turns: Sequence[Message], template: TemplateTurns, tools: Sequence[Any]) -> Calls:
    """Put calls and results in place of the texts that write them, and name for each result the call it answers.

    Args:
        turns: The turns; calls that were turns of their own are read already, and have no number yet.
        template: What is known of the form.
        tools: Definitions of tools in the text. Where nothing marks a call, it must name one of
            them, or a result must follow.
    """
    known = {name for tool in tools if isinstance(name := _name(tool), str)}
    split = [part for turn in turns for part in _results(turn, template)]
    answered = [turn.role == "tool" for turn in split[1:]] + [False]
    read = [_read(turn, template, known, sure=sure) for turn, sure in zip(split, answered, strict=True)]
    left = any(
        mark and mark in turn.content
        for turn in read if turn.role == "assistant" and "tool_calls" not in turn.extra
        for mark, _ in template.calls
    )  # fmt: skip
    return Calls(tuple(_numbered(read)), left)


def _numbered(turns: Sequence[Message]) -> Iterator[Message]:
    """Number the calls, and name for each result the call it answers."""
    number = 0
    waiting: list[str] = []
    for turn in turns:
        if turn.role == "tool":
            yield _answering(turn, waiting)
            continue
        calls = [{**call, "id": call.get("id") or f"call{place:05}"}
                 for place, call in enumerate(turn.extra.get("tool_calls", ()), start=number)]  # fmt: skip
        number += len(calls)
        waiting = [call["id"] for call in calls]
        yield replace(turn, extra={**turn.extra, "tool_calls": calls}) if calls else turn


def _name(tool: Any) -> Any:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    return function.get("name") if isinstance(function, dict) else None


def _read(turn: Message, template: TemplateTurns, known: Collection[str], *, sure: bool) -> Message:
    """Read the calls that an answer ends with; the turn itself where there is none, or something goes on behind."""
    if turn.role != "assistant" or "tool_calls" in turn.extra:
        return turn
    turn = _with_thought(turn, template)
    for before, behind in template.calls:
        mark = _mark(before)
        begun = (
            mark.search(turn.content, max(turn.content.rfind("</think>"), 0)) if before else mark.match(turn.content)
        )
        if begun is None:
            continue
        start = begun.start()
        values = _blocks(turn.content[start:], mark, behind)
        calls = [_call(value) for value in values] if values is not None else []
        if not calls or not all(calls):
            continue
        if before or sure or all(call["function"]["name"] in known for call in calls if call):
            return replace(turn, content=turn.content[:start].rstrip("\n"), extra={**turn.extra, "tool_calls": calls})
    return turn


def _with_thought(turn: Message, template: TemplateTurns) -> Message:
    """Keep what an answer thinks apart from what it says."""
    for before, behind in template.thoughts:
        thought, end, said = turn.content.partition(behind)
        if end and thought.startswith(before):
            extra = {THINKING_KEYS[0]: thought.removeprefix(before), **turn.extra}
            return replace(turn, content=said.lstrip("\n"), extra=extra)
    return turn


@cache
def _mark(before: str) -> re.Pattern[str]:
    """Find what stands before a call, with the names that are in it."""
    exactly = re.escape(before).replace(r"\{name\}", r"(?P<name>[\w.-]+)").replace(r"\{id\}", r"(?P<id>\w+)")
    return re.compile(exactly)


def _blocks(text: str, mark: re.Pattern[str], behind: str) -> list[Any] | None:
    """Give the calls of blocks that make up a whole text; a list stands for its members."""
    found: list[Any] = []
    while text:
        begun = mark.match(text)
        values, end = _values(text, begun.end()) if begun else ([], 0)
        text = text[end:].lstrip()
        if begun is None or len(values) != 1 or not text.startswith(behind):
            return None
        text = text[len(behind) :].lstrip()
        names = begun.groupdict()
        found += [{**names, "arguments": values[0]}] if names else _flat(values)
    return found


def _flat(values: Sequence[Any]) -> list[Any]:
    """Put the members of lists in their place."""
    return [member for value in values for member in (value if isinstance(value, list) else [value])]


def _values(text: str, start: int) -> tuple[list[Any], int]:
    """Read the JSON objects and lists that stand one behind the other, and say where they end."""
    values: list[Any] = []
    while True:
        begun = _VALUE.match(text, start)
        if begun is None:
            return values, start
        try:
            value, start = _DECODER.raw_decode(text, begun.end())
        except (ValueError, RecursionError):
            return values, start
        values.append(value)


def _call(value: Any) -> dict[str, Any] | None:
    """Make a call of what a template wrote of it; None where it is no name and arguments."""
    if not isinstance(value, dict) or not value.keys() <= _SAID or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters"))
    if not isinstance(arguments, dict) and not (isinstance(arguments, str) and is_object(arguments)):
        return None
    return numbered_call(value["name"], arguments, value.get("id"))


def _results(turn: Message, template: TemplateTurns) -> Iterator[Message]:
    """Give each result of a turn that holds nothing else as a turn of its own."""
    for before, behind in template.results:
        text = turn.content.strip()
        if turn.role in ("user", "tool") and text.startswith(before) and text.endswith(behind):
            results = text.removeprefix(before).removesuffix(behind).split(f"{behind}\n{before}")
            yield from (Message(role="tool", content=result) for result in results)
            return
    yield turn if turn.role != "tool" or not template.json_results else replace(turn, content=_unquoted(turn.content))


def _unquoted(text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str) else text


def _answering(turn: Message, waiting: list[str]) -> Message:
    """Name the call that a result answers: the one that it names itself, or the next that waits for one."""
    named, mark, said = turn.content.partition(_NAMED)
    if mark:
        return replace(turn, content=said, extra={"tool_call_id": named.strip()})
    try:
        value = json.loads(turn.content)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and value.keys() == {"content", "call_id"} and isinstance(value["call_id"], str):
        held = value["content"]
        content = held if isinstance(held, str) else json.dumps(held, ensure_ascii=False)
        return replace(turn, content=content, extra={"tool_call_id": value["call_id"]})
    return replace(turn, extra={"tool_call_id": waiting.pop(0)}) if waiting else turn
