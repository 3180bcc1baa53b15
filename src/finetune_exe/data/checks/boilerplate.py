"""What stands around the text of a web page: notices, menus, buttons."""

from __future__ import annotations

import re
from collections.abc import Iterator

from finetune_exe.data.checks.check import DataCheck, Hit, RowCheck, shorten
from finetune_exe.data.checks.example import text
from finetune_exe.data.checks.facts import Facts
from finetune_exe.data.checks.row import RowView
from finetune_exe.knowledge.boilerplate import (
    boilerplate_phrases,
    boilerplate_signs,
    is_unspaced,
    unspaced_phrases,
)
from finetune_exe.text.formats.dialogue_marks import usual_turns

_LINE_CHARACTERS = 120
"""Only short lines are looked at: a sentence may speak of a privacy policy."""
_SENTENCES = re.compile(r"\n|(?<=[.!?]) ")
"""Between lines, and between sentences: the lines of a page are often joined to one."""
_MENU = re.compile(
    r"\s*(?:[^\W\d][\w'&-]*(?: [\w'&-]+){0,3}\s*[|\u2022\u00b7\u00bb>]\s*){2,}[^\W\d][\w'&-]*(?: [\w'&-]+){0,3}\s*"
)
"""Links side by side."""
_OWNED = re.compile(r"(?:\u00a9|\([cC]\)|\b[Cc]opyright)\s*(?:\u00a9|\([cC]\))?\s*(?:19|20)\d\d\b")
"""Whose a page is, and since when; beside that all rights are reserved, it is a second notice."""
_ABOUT = re.compile(
    r"\b(?:cookies?|privacy|polic\w+|terms|copyright|licen[cs]\w+|web ?(?:site|page|shop)?s?|pages?|blog\w*"
    r"|newsletters?|menus?|footers?|headers?|e-?mails?|html|notices?|banners?|disclaimers?|landing|navigation|app"
    r"|advert\w*|posts?|articles?)\b",
    re.IGNORECASE,
)
"""What an answer with such lines may have been asked for."""
_MIN_FAMILIES = 2
"""Kinds of such lines in one text: one kind alone stands in 24 of 28,986 rows of public files, two in the two that end
with the notice of a page."""
_USUAL = ("cookie", "reserved", "privacy", "newsletter", "subscribe", "share")
"""Of two notices that were joined to one line, one nearly always says one of these; other lines are not looked at, for
it would take a tenth of the time of all checks."""
_EDGE_LINES = 6
"""Lines at either end of the text, where pages have it."""
_MIN_TEXTS, _MIN_REPEATS, _MIN_REPEAT_SHARE = 50, 5, 0.005
"""Texts that show what a source repeats, and texts, or their share, that must have a line for it to be such."""


def _find(row: RowView) -> str | None:
    phrases = _phrases(row)
    if not phrases or _ABOUT.search(row.prompt) is not None:
        return None
    for answer in row.answers:
        lines = _SENTENCES.split(answer)
        edges = lines if len(lines) <= 2 * _EDGE_LINES else lines[:_EDGE_LINES] + lines[-_EDGE_LINES:]
        families: dict[str, str] = {}
        for line in edges:
            if len(line) <= _LINE_CHARACTERS and _MENU.fullmatch(line) is not None:
                families.setdefault("menu", line)
            if _OWNED.search(line) is not None:
                families.setdefault("owned", line)
            if 8 <= len(line) <= _LINE_CHARACTERS:
                said = line.lower()
                for phrase, family in phrases.items():
                    if phrase in said:
                        families.setdefault(family, line)
        if len(families) >= _MIN_FAMILIES:
            return shorten(next(iter(families.values())))
    return None


def _phrases(row: RowView) -> dict[str, str]:
    """Give the phrases that stand in the answers, with their families."""
    said, signs = "\n".join(row.answers).lower(), boilerplate_signs()
    has_lines = row.layout == "text" or row.signs.count("\n") > _MIN_FAMILIES
    if not has_lines and not any(map(said.__contains__, _USUAL)):
        return {}
    words = said.split()
    maybe = unspaced_phrases() if row.foreign and is_unspaced(row.foreign) else ()
    if not signs.keys().isdisjoint(words):
        maybe += tuple(phrase for word in words if word in signs for phrase in signs[word])
    return {phrase: boilerplate_phrases()[phrase] for phrase in maybe if phrase in said}


def _repeated_edge(facts: Facts) -> Iterator[Hit]:
    """Find texts with a line at their edge that is at the edge of several others, whatever it says."""
    import numpy as np

    if "text" not in facts.layouts or len(facts) < _MIN_TEXTS or usual_turns(facts.turns) is not None:
        return  # of dialogues, what is asked about repeats
    lines, counts = np.unique(facts.edges[facts.edges != 0], return_counts=True)
    often = lines[counts >= max(_MIN_REPEATS, _MIN_REPEAT_SHARE * len(facts))]
    for place in np.flatnonzero(np.isin(facts.edges, often).any(axis=1)).tolist():
        yield Hit(int(facts.index[place]), "a line at its edge stands at the edge of several texts")


CHECKS = (
    RowCheck(
        code="boilerplate",
        severity="warning",
        message="notices and menus of a web page stand in the text",
        fix="cut those lines",
        find=_find,
        layouts=frozenset({"text", "turns", "columns"}),
        example=text(
            "It was a good cask.\nCookie settings | Accept all | Privacy policy\nCopyright. All rights reserved."
        ),
        counterexample=text(
            "We read the privacy policy of nine shops and found that three of them sell what they know."
        ),
    ),
    DataCheck(
        code="boilerplate",
        severity="warning",
        message="notices and menus of a web page stand in the text",
        fix="cut those lines",
        find=_repeated_edge,
        usual=0.5,
        example=[text(f"Text {number}.\nIt is long.\nGelesen auf den Seiten der Zeitung.") for number in range(60)],
        counterexample=[
            text(f"Text {number}.\nIt is long.\nIt was read on page {number}, I think.") for number in range(60)
        ],
    ),
)
