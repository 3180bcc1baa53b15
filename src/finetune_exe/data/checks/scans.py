"""Text that a machine read off a picture of a page, and read wrong."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import text
from finetune_exe.data.checks.programs import seems_code
from finetune_exe.data.checks.row import RowView

_SIGNS = (" tbe ", " tlie ", " aud ", " ofthe ")
"""Misread words, one of which every such English text has."""
_MISREAD = re.compile(
    r"\b(?:tbe|tlie|tiie|thc|wliich|whicli|wbich|tliat|tbat|tliis|tbis|witli|wiih|liave|bave|liis|bis|tliey|tbey|tlien"
    r"|tbem|tliem|ofthe|inthe|tothe|onthe|andthe|fromthe|forthe|bythe|tlicre|tbere|tbeir|tlieir|wlien|wben|wliat|wbat"
    r"|wbo|sucb|eacli|mucb|aud|tho|beeu|tiling|tlirough|tbrough|anotlier|ofhis|isthe|ofa)\b"
)
_MIN_MISREAD, _MIN_KINDS = 4, 3
"""Misread words, and different ones: an article on typing errors names one or two."""
_MISREAD_DIGIT = re.compile("[01](?<=[a-z].)(?=[a-z])")
_DIGIT_INSIDE = re.compile(
    r"(?<![\w.@#/-])[a-z]{2,}[01][a-z]+(?![\w.@/-])|(?<![\w.@#/-])[a-z][01][a-z]{2,}(?![\w.@/-])"
)
"""A word with a digit for the letter that looks like it."""
_BROKEN = re.compile(r"[^\W\d_]{2,}-\n(?=[a-z\u00df-\u00ff]{2,})")
"""A word that was divided at the end of a printed line."""
_MIN_BROKEN = 4
"""One or two may be compounds whose own hyphen stands at the end of a line."""
_ABOUT = re.compile(
    r"\b(?:ocr|misspell\w*|spell\w*|typos?|errors?|correct|proofread\w*|hyphen\w*|scann\w+)\b", re.IGNORECASE
)


def _find(row: RowView) -> str | None:
    if row.layout == "classification":
        return None
    if row.signs.count("-\n") >= _MIN_BROKEN:
        found = _in_answers(row, _BROKEN)
        if len(found) >= _MIN_BROKEN and _ABOUT.search(row.prompt) is None:
            return found[0]
    if ("0" in row.signs or "1" in row.signs) and len(_MISREAD_DIGIT.findall(row.text)) >= _MIN_MISREAD:
        found = _in_answers(row, _DIGIT_INSIDE)
        if len(found) >= _MIN_MISREAD and _ABOUT.search(row.prompt) is None and not seems_code(row.answer):
            return found[0]
    if not any(map(row.text.__contains__, _SIGNS)):
        return None
    found = _in_answers(row, _MISREAD)
    words = {word.casefold() for answer in row.answers for word in _MISREAD.findall(answer)}
    return (
        found[0]
        if len(found) >= _MIN_MISREAD and len(words) >= _MIN_KINDS and _ABOUT.search(row.prompt) is None
        else None
    )


def _in_answers(row: RowView, pattern: re.Pattern[str]) -> list[str]:
    return [shorten(answer, match.start()) for answer in row.answers for match in pattern.finditer(answer)]


CHECKS = (
    RowCheck(
        code="scan_noise",
        severity="warning",
        message="the text was read off a printed page by a machine: words are misread, or divided where a line ended",
        fix="join what was divided, and correct or drop what was misread",
        find=_find,
        usual=0.3,
        example=text(
            "It was tlie custom ofthe men to dig, aud tbe women wliich lived there bave told us tliat it was so."
        ),
        counterexample=text("Tho wrote it in the Chinese way, and the bishop had it read to all who could not read."),
    ),
)
