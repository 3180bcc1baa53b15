"""What writers of rows leave for themselves or for each other."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.programs import is_program, is_stub
from finetune_exe.data.checks.row import RowView

_NOTE = re.compile(
    r"\[(?:NOTE|TODO|TO DO|FIXME|TBD|XXX|REVIEW\w*|ANNOTAT\w*|EDITOR\w*|INTERNAL|DRAFT|QA|PLACEHOLDER)"
    r"(?: [A-Z]+){0,4}\b(?:: ?[^\]\n]{0,200})?\]"
)
_NOTE_SIGNS = re.compile(r"\[(?:NOTE|TODO|FIXME|TBD|XXX|REVIEW|ANNOTAT|EDITOR|INTERNAL|DRAFT|QA|PLACEHOLDER)")
_TO_DO = re.compile(r"\s*(?:TODO|FIXME|TBD|XXX)\b(?!\w)[:\s]")
_TO_DO_CHARACTERS, _TO_DO_LETTERS = 200, ("T", "F", "X", " ", "\n")
"""A longer answer goes on to say what is to do. With it, the letters that such a note begins with."""
_REMINDER = re.compile(r"(?<![#/*;-] )\b(?:TODO|FIXME)(?:\(\w+\))?: ?\w")
_CONFLICT = re.compile(r"^<{7} .*\n(?:.*\n)*?={7}\n(?:.*\n)*?>{7} ", re.MULTILINE)
"""The two sides of a change that somebody could not merge."""
_LEFT_OUT = re.compile(
    r"^[ \t]*(?:#|//|/\*|--|<!--) ?(?:TODO:? ?(?:[Ii]mplement|[Cc]omplete|[Ff]ill in|[Ff]inish)\b"
    r"|(?:\.\.\. ?|\()?(?:[Tt]he )?(?:[Rr]est of|[Rr]emaining|[Ee]xisting)"
    r"(?: (?:the|your))? (?:code|implementation|function|file|class|methods?)"
    r"(?= *(?:\.\.\.|\u2026|\)|\*/|-->|$|here\b|goes\b|remains?\b|stays?\b|unchanged\b|as (?:before|is)\b))"
    r"|[Ii]mplementation (?:goes )?here\b)",
    re.MULTILINE,
)
"""What stands in a program for the part that was not written."""
_COMMENTS = ("#", "//", "/*", "--")
_EMPTY_BODIES = ("pass", "...", "NotImplementedError", "NotImplementedError()", "')", '")')
"""How functions end in which nothing is done."""
_ASKS_PART = re.compile(
    r"\b(?:skeleton|stubs?|outline|scaffold\w*|template|boilerplate|abstract|interface|exercise|NotImplemented\w*|todo)",
    re.IGNORECASE,
)
_NOTHING = re.compile(r"<(?:no|empty)[ _-]?(?:input|output|response|answer)>", re.IGNORECASE)
_FILLER = re.compile(r"\b[Ll]orem ipsum dolor\b")
_ABOUT = re.compile(
    r"\b(?:to-?do|git|merge|conflicts?|code|comments?|template|placeholder|draft|notes?|lorem|dummy|filler|html|css|design"
    r"|typeset|latin|web ?(?:site|page))",
    re.IGNORECASE,
)


def _find(row: RowView) -> str | None:
    if row.layout == "classification":
        return None
    signs = row.signs
    for answer in row.answers:
        found = _draft(answer, signs)
        if found is not None and _ABOUT.search(row.prompt) is None:
            return shorten(answer, found.start())
        place = _left_out(answer, signs)
        if place >= 0 and _ASKS_PART.search(row.prompt) is None:
            return shorten(answer, place)
    if "<>" in signs and (nothing := _NOTHING.search(row.text)) is not None and _ABOUT.search(row.prompt) is None:
        return shorten(row.text, nothing.start())
    return None


def _left_out(answer: str, signs: str) -> int:
    """Find the part of a program that was not written; -1 where there is none."""
    if "\n" not in answer:
        return -1
    if any(map(signs.__contains__, _COMMENTS)) and (said := _LEFT_OUT.search(answer)) is not None:
        return said.start()
    return 0 if answer.rstrip().endswith(_EMPTY_BODIES) and is_stub(answer) else -1


def _draft(answer: str, signs: str) -> re.Match[str] | None:
    if "[" in signs and _NOTE_SIGNS.search(signs) is not None and (note := _NOTE.search(answer)) is not None:
        return note
    if (
        answer[:1] in _TO_DO_LETTERS
        and len(answer) <= _TO_DO_CHARACTERS
        and (to_do := _TO_DO.match(answer)) is not None
    ):
        return to_do
    if ("TODO" in signs or "FIXME" in signs) and (note := _REMINDER.search(answer)) is not None:
        return None if is_program(answer) else note
    if "orem ipsum" in answer and (filler := _FILLER.search(answer)) is not None:
        return filler
    return _CONFLICT.search(answer) if "<<<<<<<" in signs and ">>>>>>>" in signs else None


CHECKS = (
    RowCheck(
        code="draft_mark",
        severity="warning",
        message="the row was not finished: a note to its writer, filler text, or a change that was never merged",
        fix="finish the row, or drop it",
        find=_find,
        example=asked("Describe the harbour.", "[TODO: ask the pilot] It is small."),
        counterexample=asked("Write a to-do comment.", "# [TODO: ask the pilot]"),
    ),
)
