"""Rows and answers that are wrapped in JSON nobody asked for."""

from __future__ import annotations

import json
import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.row import RowView
from finetune_exe.data.python_literal import read_python

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
    "generated_text",
    "choices",
}
_RECORD_KEYS = {
    "instruction", "input", "output", "prompt", "completion", "question", "answer", "messages", "conversations",
    "response",
    "query", "chosen", "rejected", "role", "content", "text", "label",
}  # fmt: skip
_ASKS = re.compile(
    r"json|yaml|dictionar|schema|payload|key-? ?value|\b(?:api|dict|field|format|keys|object|struct)s?\b"
    r"|\b(?:formatted|javascript|parsed?|parser|parsing|structured)\b",
    re.IGNORECASE,
)
_ASKS_LIST = re.compile(r"\b(?:array|list|python|quote|quotation|string|tuple)(?:s|d|ed)?\b", re.IGNORECASE)
"""The same where the answer is a list or one text in quotes."""
_MIN_PROSE, _MIN_WIDE = 20, 8
"""Characters that a text has which is no name; fewer do in the scripts of East Asia."""
_WIDE = re.compile("[\u3040-\ud7af]")
_ESCAPE = re.compile(r"\\(?:[nt\"]|u[0-9a-f]{4})")
_OPENINGS = ("{", "[", '"', "'", "(")
_CALL = re.compile(r"(?:ChatCompletion|Chat|AI|Human|Assistant|Completion)\w*\((?:\w+=|['\"])")
"""An answer as a library of Python prints it."""
_PYTHON_CHARACTERS = 100_000
"""Python reads its own values slowly; longer answers are left out."""
_WRITTEN_HERE = ("annotated", "function_calls")
"""Layouts whose answers the reader itself writes as JSON."""
_FILLED = 0.6
"""Share of an object that one text fills where it wraps that text."""


def _find(row: RowView) -> str | None:
    if row.conversation.origin.get("format") in _WRITTEN_HERE:
        return None
    for message in row.messages:
        content = message.content
        if message.role == "assistant" and content[-1:] == ")" and _CALL.match(content) is not None:
            return shorten(content)
        if content[:1] not in "{[('\" \n`":
            continue
        content = _unfenced(content)
        if content[:1] not in _OPENINGS or content[-1] not in "}])'\"":
            continue
        if _is_found(content, message.role, row.prompt):
            return shorten(content)
    return None


def _is_found(content: str, role: str, prompt: str) -> bool:
    try:
        value = _parse(content)
        if role == "user":
            return _is_record(value) or _is_bare_prompt(value)
        return role == "assistant" and _is_wrapper(value, content) and not _is_asked_for(value, prompt)
    except RecursionError:
        return False  # nested deeper than an answer is


def _unfenced(content: str) -> str:
    """Take the fence of a code block off, where nothing else is there."""
    stripped = content.strip()
    if stripped.startswith("```") and stripped.endswith("```") and stripped.count("```") == 2:
        return stripped[3:-3].removeprefix("json").strip()
    return stripped


def _is_record(value: object) -> bool:
    """Whether a value is a row, or a list of turns."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(turn, dict) and _is_record(turn) for turn in value)
    return isinstance(value, dict) and len(_RECORD_KEYS & value.keys()) >= 2


def _is_bare_prompt(value: object) -> bool:
    """Whether a value is an object with nothing but a question."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    name, inner = next(iter(value.items()))
    if name in ("messages", "conversations"):
        return _is_record(inner)
    return name in ("prompt", "instruction", "question", "query") and isinstance(inner, str)


def _is_wrapper(value: object, content: str) -> bool:
    """Whether a value is an answer as a program gives it: under a name that programs use, in a list, or escaped."""
    if isinstance(value, str):
        return _ESCAPE.search(content) is not None and _is_prose(value)
    if isinstance(value, dict):
        filled = _longest(value)
        if _is_prose(filled) and len(filled) >= _FILLED * len(content):
            return True
        return _holds_answer(value) or len((_RECORD_KEYS | {"assistant"}) & value.keys()) >= 2
    if isinstance(value, set):
        value = list(value)
    if isinstance(value, list | tuple) and value:
        if all(isinstance(item, dict) for item in value):
            return _is_record(value) or (len(value) == 1 and _is_wrapper(value[0], content))
        texts = [item for item in value if isinstance(item, str)]
        return len(texts) + sum(item is None for item in value) == len(value) and 2 * sum(map(_is_prose, texts)) > len(
            texts
        )
    return False


def _is_asked_for(value: object, prompt: str) -> bool:
    if _ASKS.search(prompt) is not None:
        return True
    return not isinstance(value, dict) and _ASKS_LIST.search(prompt) is not None


def _holds_answer(value: dict[object, object]) -> bool:
    """Whether an object has an answer under one of the names for it, and besides only what is short."""
    named = [name for name in value if name in _ANSWER_KEYS]
    if len(value) == 1 and named:
        return True
    for name in named:
        inner = value[name]
        if isinstance(inner, dict) and _holds_answer(inner):
            return True
        if isinstance(inner, str) and _is_prose(inner) and 2 * len(inner) > len(str(value)):
            return True
    turns: list[object] = []
    for name in ("messages", "choices"):
        listed = value.get(name)
        turns += listed if isinstance(listed, list) else []
    return any(isinstance(turn, dict) and (_is_record(turn) or "message" in turn) for turn in turns)


def _longest(value: object) -> str:
    """Give the longest text in a value."""
    if isinstance(value, str):
        return value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max(map(_longest, inner), key=len, default="")


def _is_prose(text: str) -> bool:
    if _WIDE.search(text):
        return len(text) >= _MIN_WIDE
    return len(text) >= _MIN_PROSE and " " in text


def _parse(content: str) -> object:
    if content.startswith("{") and "}\n{" in content:
        content = content[: content.index("}\n{") + 1]
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return _parse_python(content)


def _parse_python(content: str) -> object:
    """Read what Python prints of a value; only names and values written out are read, nothing is run."""
    if len(content) > _PYTHON_CHARACTERS:
        return None
    if content[:1] == "'":
        if "\\n" not in content:
            return None
    elif content[:1] not in "[({" or content[1:].lstrip()[:1] not in "'\"({[":
        return None
    return read_python(content)


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
