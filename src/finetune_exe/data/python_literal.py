"""Values as Python prints them, read without running anything."""

from __future__ import annotations

import ast
import warnings

MAX_CHARACTERS = 1 << 18
"""Longest text that is tried."""


def read_python(text: str) -> object:
    """Read a value written out as Python prints it; None where the text is none, or very long."""
    if len(text) > MAX_CHARACTERS:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes that Python does not know
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
