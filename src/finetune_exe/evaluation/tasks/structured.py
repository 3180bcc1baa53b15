"""JSON answers and calls of tools: whether they can be read, fit their schema, and call the right thing."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from finetune_exe.evaluation.tasks.answered import Answered, TaskScores, mean

MOST_STARTS = 1_000
"""Opening brackets of an answer that are tried."""
_DECODER = json.JSONDecoder()
_OPENING = re.compile(r"[{[]")


class Call(NamedTuple):
    """One call of a tool."""

    name: str
    arguments: Any


class Structured:
    """Reads JSON and tool calls of answers and holds them against the reference and the schema."""

    name = "structured"

    def score(self, items: Sequence[Answered]) -> TaskScores:
        """Score parsed, valid and exact answers, and tools that do not exist."""
        parsed, valid, exact, chosen, invented = [], [], [], [], []
        for item in items:
            content = find_json(item.answer)
            parsed.append(float(content is not None))
            calls, wanted = read_calls(content), read_calls(find_json(item.reference))
            known = tool_schemas(item.columns.get("tools"))
            valid.append(float(content is not None and _is_valid(content, calls, item, known)))
            exact.append(float(content is not None and content == find_json(item.reference)))
            if wanted or known:
                chosen.append(_choice_f1(calls, wanted))
                invented.append(mean([float(call.name not in known) for call in calls]) if known else 0.0)
        figures = {"parsed": mean(parsed), "schema_valid": mean(valid)}
        if chosen:
            figures |= {"tool_choice_f1": mean(chosen), "invented_tools": mean(invented)}
        return TaskScores(items={"exact_json": exact, "schema_valid": valid}, figures=figures)


def find_json(text: str) -> Any:
    """Read the first JSON object or list of a text, fenced or not; None where there is none.

    After `MOST_STARTS` brackets that begin none, nothing more is tried: a collapsed model may write thousands.
    """
    for start in itertools.islice(_OPENING.finditer(text), MOST_STARTS):
        with suppress(ValueError, RecursionError):
            return _DECODER.raw_decode(text, start.start())[0]
    return None


def read_calls(content: Any) -> list[Call]:
    """Read calls in the forms in use: {name, arguments}, {function: {...}}, {tool_calls: [...]}, or a list of them."""
    if isinstance(content, list):
        return [call for part in content for call in read_calls(part)]
    if not isinstance(content, dict):
        return []
    if isinstance(content.get("tool_calls"), list):
        return read_calls(content["tool_calls"])
    if isinstance(content.get("function"), dict):
        return read_calls(content["function"])
    name = content.get("name")
    if not isinstance(name, str) or not {"arguments", "parameters"} & content.keys():
        return []
    arguments = content.get("arguments", content.get("parameters"))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = None
    return [Call(name, arguments)]


def tool_schemas(tools: Any) -> dict[str, Mapping[str, Any]]:
    """Give the schema of each tool's arguments by the tool's name."""
    if isinstance(tools, str):
        tools = find_json(tools)
    found: dict[str, Mapping[str, Any]] = {}
    for tool in tools if isinstance(tools, list) else ():
        described = tool.get("function", tool) if isinstance(tool, dict) else None
        if isinstance(described, dict) and isinstance(described.get("name"), str):
            schema = described.get("parameters")
            found[described["name"]] = schema if isinstance(schema, dict) else {}
    return found


def fits(content: Any, schema: Any) -> bool:
    """Say whether a value fits a JSON schema; a schema that is none fits nothing. References are never fetched."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from referencing.exceptions import Unresolvable

    try:
        Draft202012Validator.check_schema(schema)
        return bool(Draft202012Validator(schema).is_valid(content))
    except (SchemaError, Unresolvable, RecursionError):
        return False


def _is_valid(content: Any, calls: list[Call], item: Answered, known: dict[str, Mapping[str, Any]]) -> bool:
    if known and calls:
        return all(call.name in known and fits(call.arguments, known[call.name]) for call in calls)
    schema = item.columns.get("schema", item.columns.get("json_schema"))
    if isinstance(schema, str):
        schema = find_json(schema)
    if isinstance(schema, dict):
        return fits(content, schema)
    return type(content) is type(find_json(item.reference))


def _choice_f1(given: list[Call], wanted: list[Call]) -> float:
    ours, theirs = {call.name for call in given}, {call.name for call in wanted}
    return 2 * len(ours & theirs) / (len(ours) + len(theirs)) if ours or theirs else 1.0
