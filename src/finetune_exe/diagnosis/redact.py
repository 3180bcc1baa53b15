"""Take out of a text what its reader outside need not know: names of people and machines, paths, addresses, tokens."""

from __future__ import annotations

import re

from finetune_exe.diagnosis.read import quote_secrets

_REPLACED = (  # each begins where a run of its characters does, so that no text is gone through again and again
    (re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+\.[\w.-]+\b"), "[mail]"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b(?!\.\d)"), "[address]"),
    (re.compile(r"(?i)(?<=/home/)[^/\s:'\"]+|(?<=/Users/)[^/\s:'\"]+|(?<=\\Users\\)[^\\\s:'\"]+"), "[user]"),
    (re.compile(r"(?i)((?:host(?:name)?|node|user(?:name)?)\s*[:=]\s*)[\w.-]+"), r"\1[name]"),
    (re.compile(r"(?<![\w.-])(?:[a-z0-9-]+\.)+(?:internal|local|lan|corp|compute\.amazonaws\.com)\b"), "[host]"),
)
_PATH = re.compile(r"(?<![\w:/.\]])(?:[A-Za-z]:)?(?:[/\\][\w.@+\[\]-]+){2,}[/\\]?")
_KEPT_PARTS = 2


def redact(text: str) -> str:
    """Redact a text line by line; of a path the last two parts stay, for they tell the library and the file."""
    shown = quote_secrets(text)
    for pattern, instead in _REPLACED:
        shown = pattern.sub(instead, shown)
    return _PATH.sub(_shortened, shown)


def _shortened(match: re.Match[str]) -> str:
    parts = [part for part in re.split(r"[/\\]", match[0]) if part]
    if len(parts) <= _KEPT_PARTS:
        return match[0] if not parts or not match[0].startswith(("/home", "/Users", "/root")) else f".../{parts[-1]}"
    return ".../" + "/".join(parts[-_KEPT_PARTS:])
