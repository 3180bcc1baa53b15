"""Gaps of a template that were never filled."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.row import RowView

_GAPS = {
    "{{": re.compile(r"\{\{(?<![{$\\%]..) ?[A-Za-z][\w .-]{0,30} ?\}\}(?!\})"),
    "<<": re.compile(r"<<[A-Z][A-Z_ ]{2,30}>>"),
    "${": re.compile(r"(?<![=/:\w])\$\{[A-Z][A-Z_]{2,30}\}"),
    "%(": re.compile(r"%\((?<![\w%]..)[a-z_]+\)s"),
}
"""Marks that gaps begin with, and the gaps."""
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
_ABOUT = re.compile(
    r"template|jinja|mustache|handlebars|vue|angular|django|helm|ansible|liquid|placeholder|github actions"
    r"|workflow|latex|\\frac|\\begin"
    r"|react|jsx|style=|set notation|bash|shell|script|html|code|variable|function|def |f-string|console",
    re.IGNORECASE,
)


def _find(row: RowView) -> str | None:
    for mark, gap in _GAPS.items():
        if mark in row.signs and mark in row.text:
            text = _CODE.sub(" ", row.text) if "`" in row.text else row.text
            found = gap.search(text)
            if found is not None and not _ABOUT.search(row.text) and "SYS" not in found[0]:
                return shorten(text, found.start())
    return None


CHECKS = (
    RowCheck(
        code="unfilled_placeholder",
        severity="warning",
        message="a gap of a template was never filled",
        fix="fill in the value, or drop the row",
        find=_find,
        example=asked("Who are you?", "I am {{name}}, an assistant made by {{author}}."),
        counterexample=asked("How does Jinja write a variable?", "A template has {{name}} where the value belongs."),
    ),
)
