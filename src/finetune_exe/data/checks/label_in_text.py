"""Texts to classify that say their own label."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import labelled
from finetune_exe.data.checks.row import RowView

_NAMED = re.compile(
    r"(?:\b|_)(?:label|class|category|sentiment|intent|topic|target|answer|output|tag|emotion|polarity)s?\s*(?::|=|->|is)\s*"
    r"[\"'\[(<]*([^\"'\])>\n]{1,60}?)[\"'\])>.\s]*\Z",
    re.IGNORECASE,
)
_LAST_CHARACTERS = 100
"""The longest line in which a name, a colon and a label stand."""


def _find(row: RowView) -> str | None:
    if row.layout != "classification" or not row.answer:
        return None
    end = row.prompt[-_LAST_CHARACTERS:]
    found = _NAMED.search(end)
    if found is not None and found[1].strip().casefold() == row.answer.strip().casefold():
        return shorten(end, found.start())
    return None


CHECKS = (
    RowCheck(
        code="label_in_text",
        severity="error",
        message="the text to classify ends with its own label, so that there is nothing to learn",
        fix="cut the label off the text",
        find=_find,
        layouts=frozenset({"classification"}),
        example=labelled("My card is lost. label: card_lost", "card_lost"),
        counterexample=labelled("My card is lost. Which class: card_lost or pin_blocked?", "card_lost"),
    ),
)
