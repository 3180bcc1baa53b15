"""Answers that are programs, which the rules of prose do not hold for."""

from __future__ import annotations

import ast
import re
import warnings

_BEGINS = re.compile(r"(?:from|import|def|class|async def|@|#|\"\"\"|'''|[A-Za-z_][\w.]*(?:, ?\w+)* ?[=(\[])\W?\w*")
_FENCED = re.compile(r"```(?:python|py)?\n(.*)\n```", re.DOTALL)
QUOTED_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
"""Code in the back quotes of Markdown, on lines of its own or within one."""
_MAX_CHARACTERS = 20_000
"""Longer ones are not looked at, since it takes its time: three rows in a thousand of public files are longer."""
_LINE = re.compile(r"\s*(?:[#$@]|//|--|[\w.-]+ ?[=(]|\}|end\b)|.*[;{}()\\\[\]]\s*\Z")
"""A line as programs and scripts in most languages have it."""
_MIN_LINES = 3
"""Fewer lines may be a formula, or a line of prose with a sign at its end."""


def without_code(text: str) -> str:
    """Put a space where code is quoted."""
    return QUOTED_CODE.sub(" ", text) if "`" in text else text


def begins_as_program(text: str) -> bool:
    """Whether a text begins as programs in Python do, though it may not go on so."""
    return len(text) <= _MAX_CHARACTERS and _BEGINS.match(_unfenced(text)) is not None


def read_program(text: str) -> ast.Module | None:
    """Read a program in Python 3; None where it is none, or cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            return ast.parse(_unfenced(text))
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: nested too deeply
            return None


def is_program(text: str) -> bool:
    """Whether a text is a program in Python 3; a call alone may be a name with a remark behind it."""
    stripped = text.strip()
    program = read_program(stripped) if begins_as_program(stripped) else None
    return program is not None and any(not isinstance(part, ast.Expr) for part in program.body)


def seems_code(text: str) -> bool:
    """Whether half of the lines or more look like those of a program or a script, in whatever language."""
    lines = [line for line in text.split("\n") if line.strip()]
    return len(lines) >= _MIN_LINES and 2 * sum(_LINE.match(line) is not None for line in lines) >= len(lines)


def is_stub(text: str) -> bool:
    """Whether a program is functions in which nothing is done."""
    program = read_program(text.strip())
    functions = [part for part in program.body if isinstance(part, ast.FunctionDef)] if program is not None else []
    return bool(functions) and all(_does_nothing(part) for function in functions for part in function.body)


def _does_nothing(part: ast.stmt) -> bool:
    if isinstance(part, ast.Raise):
        raised = part.exc.func if isinstance(part.exc, ast.Call) else part.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    return isinstance(part, ast.Pass) or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))


def _unfenced(text: str) -> str:
    fenced = _FENCED.fullmatch(text) if text.startswith("```") else None
    return text if fenced is None else fenced[1].strip()
