"""JSON on one line in which no character can steer a terminal."""

from __future__ import annotations

import json
from typing import Any

_STEERING = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
"""Delete and the C1 controls, which JSON may hold as they are but terminals obey."""


def json_line(value: Any) -> str:
    """Write a value as one line of JSON in which no character can steer a terminal."""
    return unsteering(json.dumps(value, ensure_ascii=False))


def unsteering(line: str) -> str:
    """Write a line of JSON again so that no character in it can steer a terminal."""
    return line.translate(_STEERING)
