"""Rows and answers that are wrapped in JSON nobody asked for."""

from __future__ import annotations

import ast
import json
import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.row import RowView

_ANSWER_KEYS = {
    "response",
    "answer",
    "output",
    "text",
    "content",
    "result",
    "completion",
    "message",
    "reply",
    "assistant",
    "value",
    "data",
}
_RECORD_KEYS = {
    "instruction", "input", "output", "prompt", "completion", "question", "answer", "messages", "conversations",
    "response",
    "query", "chosen", "rejected", "role", "content", "text", "label",
}  # fmt: skip
_ASKS = re.compile(r"json|dict|object|key|schema|api|format|field|struct|parse|payload|yaml", re.IGNORECASE)


def _find(row: RowView) -> str | None:
    for message in row.messages:
        content = message.content
        if content[:1] not in "{[ \n`":
            continue
        content = _unfenced(content)
        if not content.endswith(("}", "]")):
            continue
        if message.role == "user":
            value = _parse(content)
            if isinstance(value, dict) and len(_RECORD_KEYS & value.keys()) >= 2:
                return shorten(content)
        elif message.role == "assistant" and not _ASKS.search(row.prompt):
            value = _parse(content)
            if _is_wrapper(value):
                return shorten(content)
    return None


def _unfenced(content: str) -> str:
    """Take the fence of a code block off, where nothing else is there."""
    stripped = content.strip()
    if stripped.startswith("```") and stripped.endswith("```") and stripped.count("```") == 2:
        return stripped[3:-3].removeprefix("json").strip()
    return stripped


def _is_wrapper(value: object) -> bool:
    """Whether a value holds an answer under the names that programs give to answers, or a list of turns."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(turn, dict) and len(_RECORD_KEYS & turn.keys()) >= 2 for turn in value)
    if not isinstance(value, dict):
        return False
    if any(isinstance(value.get(key), list) and _is_wrapper(value[key]) for key in ("messages", "choices")):
        return True
    return (len(value) == 1 and value.keys() <= _ANSWER_KEYS) or len((_RECORD_KEYS | {"assistant"}) & value.keys()) >= 2


def _parse(content: str) -> object:
    if not content.strip().startswith(("{", "[")):
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return _parse_python(content) if content[:2] in ("{'", "[{") else None


def _parse_python(content: str) -> object:
    """Read what Python prints of a dictionary; only names and values written out are read, nothing is run."""
    try:
        return ast.literal_eval(content)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


CHECKS = (
    RowCheck(
        code="json_in_string",
        severity="warning",
        message="a whole record, or an answer wrapped in JSON, stands where plain text should be",
        fix="take the text out of the JSON",
        find=_find,
        usual=0.3,
        example=asked("Rewrite it in the passive voice.", '{"response": "The machine was designed by the engineer."}'),
        counterexample=asked("Give the answer as JSON.", '{"response": "The machine was designed by the engineer."}'),
    ),
)
