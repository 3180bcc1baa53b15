"""Make a finding: a value with its place, and the remedy in the language of the file."""

from __future__ import annotations

import json

from finetune_exe.domain.review import ConfigurationFinding, Form, Severity
from finetune_exe.domain.values import Scalar
from finetune_exe.domain.yaml_text import pointed
from finetune_exe.domain.yaml_tree import Place
from finetune_exe.review.configuration import Configuration


def finding(
    code: str, severity: Severity, *, key: str, place: Place, what: str, why: str, fix: str, source: str
) -> ConfigurationFinding:
    """Make a finding at a place."""
    return ConfigurationFinding(
        code=code,
        severity=severity,
        line=place.line,
        column=place.column,
        key=key,
        what=what,
        why=why,
        fix=fix,
        source=source,
    )


def written(form: Form, key: str, value: Scalar) -> str:
    """Write a setting as the file would have it."""
    match form:
        case "json":
            return f'"{key}": {json.dumps(value)}'
        case "python":
            return f"{key.rpartition('.')[2]}={value!r}"
        case "arguments":
            return f"--{key} {plain(value)}"
        case _:
            return f"{key}: {pointed(plain(value)) if isinstance(value, float) else plain(value)}"


def plain(value: Scalar) -> str:
    """Write a value as YAML and command lines have it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def place_of(configuration: Configuration, *keys: str) -> tuple[str, Place]:
    """Give the first of the keys that the file has, with its place; the file's beginning where it has none."""
    for key in keys:
        item = configuration.settings.get(key)
        if item is not None:
            return key, item.key_place
    return keys[0] if keys else "", Place(1, 1)
