"""A setting as the file of a training program would have it."""

from __future__ import annotations

import json

from finetune_exe.domain.review import Form
from finetune_exe.domain.values import Scalar
from finetune_exe.domain.yaml_text import pointed


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
