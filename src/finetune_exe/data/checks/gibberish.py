"""Text that is no language: encoded bytes, or letters hit at random."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import text
from finetune_exe.data.checks.row import RowView

_MIN_CHARACTERS = 60
_LONG_WORD = re.compile(r"[A-Za-z0-9+/=_-]{60,}")
_MIN_SHARE = 0.5
"""Share of the text that such words must fill."""
_MIN_DISTINCT = 24
"""Different characters in it: fewer make a ruler or a sequence."""
_WORD = re.compile(r"[A-Za-z]{4,}")
_NO_VOWEL = re.compile(r"[b-df-hj-np-tv-xz]{5,}|[aeiou]{5,}|^[b-df-hj-np-tv-xz]+$", re.IGNORECASE)
_MIN_WORDS = 8
_ODD_SHARE = 0.4
"""Share of the words without a vowel or with five consonants in a row; English has 2 %."""


def _find(row: RowView) -> str | None:
    for answer in row.answers:
        if len(answer) >= _MIN_CHARACTERS and (found := _noise(answer)) is not None:
            return found
    return None


def _noise(answer: str) -> str | None:
    spaces = answer.count(" ") + answer.count("\n")
    if spaces * 12 < len(answer):
        filled = [match[0] for match in _LONG_WORD.finditer(answer)]
        joined = "".join(filled)
        mixed = any(map(str.isupper, joined)) and any(map(str.islower, joined))
        if len(joined) >= _MIN_SHARE * len(answer) and len(set(joined)) >= _MIN_DISTINCT and mixed:
            return shorten(filled[0])
    if spaces * 3 > len(answer) or not answer.isascii():
        return None
    if 4 * (len(answer) - len(answer.encode().translate(None, b"aeiou"))) > len(answer) - spaces:
        return None
    words = _WORD.findall(answer[:2000])
    if len(words) < _MIN_WORDS:
        return None
    odd = sum(_NO_VOWEL.search(word) is not None and not word.isupper() for word in words)
    return shorten(answer) if odd >= _ODD_SHARE * len(words) else None


CHECKS = (
    RowCheck(
        code="gibberish",
        severity="warning",
        message="the text is no language, but looks like encoded bytes or keys hit at random",
        fix="drop the row",
        find=_find,
        example=text("xr4k3tMVhTDyb8I7f7bDVRFYuOPDRFXcYiBI6myZGOTiU0Nlqieb0BwEQ22C3FOlaVXu4prGjVMn5YbslfLDWX2jKmY87A0"),
        counterexample=text(
            "The hash of the file is e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855."
        ),
    ),
)
