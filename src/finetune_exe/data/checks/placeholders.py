"""Gaps of a template that were never filled."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.programs import seems_code, without_code
from finetune_exe.data.checks.row import RowView

_GAPS = {
    "{{": re.compile(r"\{\{(?<![{$\\%]..) ?[A-Za-z][\w .-]{0,30} ?\}\}(?!\})"),
    "<INSERT": re.compile(r"<INSERT(?: [A-Z]+){1,6}>"),
    "<YOUR": re.compile(r"<YOUR(?:[ _][A-Z]+){1,6}>"),
    "<<": re.compile(r"<<[A-Z][A-Z_ ]{2,30}>>"),
    "${": re.compile(r"(?<![=/:\w])\$\{[A-Za-z][A-Za-z_.]{2,30}\}"),
    "{%": re.compile(r"\{%-? ?(?:if|elif|else|endif|for|endfor|set|block|endblock|macro|include)\b[^%\n]{0,80}%\}"),
    "%(": re.compile(r"%\((?<![\w%]..)[a-z_]+\)s"),
}
"""Marks that gaps begin with, and the gaps."""
_BARE_CHARACTERS, _BARE_SIGNS = 34, ("{", "%", "$", "<", " ")
"""The longest gap of `_BARE`, with spaces around it, and the signs that one begins with."""
_ABOUT = re.compile(
    r"\b(?:template|jinja|mustache|handlebars|vue\b|angular|django|helm\b|ansible|liquid|placeholder|github actions"
    r"|workflow|latex|react(?:\b|js)|jsx|set notation|bash|shell|\w*script|\w*html|code|variable|function|def |f-string"
    r"|console)"
    r"|\\frac|\\begin|style=",
    re.IGNORECASE,
)


_FIELD = re.compile(
    r"(?<![\\{$\w])\{(?:question|query|context|input|instruction|text|name|answer|prompt|passage|document|topic|user_?input"
    r"|user_?name|output|response|sentence|article|title|user|history|examples?|first_name|last_name|date|subject|language)\}"
    r"(?!\})"
)
"""A gap of a format string, by a name that templates of questions use."""
_BARE = re.compile(r"\s*(?:\{+ ?\w+ ?\}+|%\(?\w+\)?s|%s|\$\{?\w+\}?|<[A-Z_]{3,30}>)\s*")
"""A gap and nothing else."""
_BRACKETED = re.compile(
    r"\[(?:(?:[Yy]our|YOUR|[Mm]y|[Ii]nsert|INSERT|[Ee]nter (?:your|the|a)|ENTER|[Aa]dd|ADD|[Ff]ill in|Recipient"
    r"|Company|Customer|Client|Employee|Manager|Hiring|Product|Specific|Phone|Email|Street|Start|End|Current)\b[^\]\n]{0,60}"
    r"|(?:NAME|Name|Date|DATE|Address|City|Location|Company|Title|Amount|Topic|Subject))\](?!\()"
)


def _bracketed(row: RowView) -> str | None:
    if "[" not in row.signs or row.layout in ("text", "classification"):
        return None
    for answer in row.answers:
        found = _BRACKETED.search(answer)
        if found is not None and found[0] not in row.prompt:
            return shorten(answer, found.start())
    return None


def _find(row: RowView) -> str | None:
    for mark, gap in _GAPS.items():
        if mark in row.signs and mark in row.text:
            text = without_code(row.text)
            found = gap.search(text)
            if found is None or _ABOUT.search(row.text) or "SYS" in found[0]:
                continue
            if mark != "${" or not seems_code(row.answer):
                return shorten(text, found.start())
    if "{" in row.signs:
        field = _FIELD.search(row.text)
        if field is not None and "`" not in row.text and not _ABOUT.search(row.text):
            return shorten(row.text, field.start())
    for said in (row.prompt, row.answer) if row.layout not in ("text", "classification") else ():
        if (
            said[:1] in _BARE_SIGNS
            and len(said) <= _BARE_CHARACTERS
            and _BARE.fullmatch(said) is not None
            and not _ABOUT.search(row.text)
        ):
            return shorten(said)
    return None


CHECKS = (
    RowCheck(
        code="bracketed_gap",
        severity="info",
        message="the answer leaves a gap in brackets to fill in, as [Your Name]",
        fix="nothing need be done where the answer is a form to fill in; otherwise fill it in",
        find=_bracketed,
        example=asked("Write to the landlord.", "Dear landlord,\nthe heating is cold.\n[Your Name]"),
        counterexample=asked("Which is it?", "It is the second [2], see [the list](list.md)."),
    ),
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
