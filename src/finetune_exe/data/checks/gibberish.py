"""Text that is no language: encoded bytes, or letters hit at random."""

from __future__ import annotations

import re
import string

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import text
from finetune_exe.data.checks.row import RowView

_MIN_CHARACTERS = 60
_LONG_WORD = re.compile(r"[A-Za-z0-9+/=_-]{60,}")
_MIN_SHARE = 0.5
"""Share of the text that such words must fill."""
_MIN_DISTINCT = 24
"""Different characters in it: fewer make a ruler or a sequence."""
_HEX = re.compile(r"[0-9a-fA-F]{129,}")
"""More bytes in hexadecimal digits than any digest has."""
_HEX_DISTINCT = 10
_WORD = re.compile(r"\b[A-Za-z][a-z]{3,}\b")
_RARE_PAIR = re.compile(
    "a[oq]|b[cdfghkmnpqvwxz]|c[bdfgjmnpqvwxz]|d[chkpqtxz]|f[bcdghjkmnpqvwxz]|g[bcdfjkpqvwxz]|h[cfghjkpqvxz]|i[ijwy]"
    "|j[bcdfghjklmnpqrstvwxyz]|k[bcdfghjkmpqvxz]|l[hjqxz]|m[cdghjkqrtvwxz]|n[qwx]|oq|p[bcgjknqvwxz]"
    "|q[abcdefghijklmnopqrstvwxyz]|r[jqxz]|s[gjrvxz]|t[dgjkqvx]|u[hjquvwxz]|v[bcdfghjklmnpqrstuvwxyz]"
    "|w[cdfgjkmpquvwxyz]"
    "|x[bdfghjklmnoqrsuvwxyz]|y[fhjkquvxy]|z[bcdfghjklmnpqrstvwxy]"
)
"""Pairs of letters each of which is less than one in 25,000 of those in texts of many languages, counted there; two in
five of the pairs of random letters are such."""
_COMMON = (
    " the ", " of ", " to ", " and ", " is ", " in ", " de ", " la ", " que ",
    " der ", " und ", " die ", " en ", " di ", " na ", " yang ", " ja ", " se ", " el ", " il ",
)  # fmt: skip
"""Random letters are no words, and hardly ever these."""
_MIN_WORDS = 8
_ODD_SHARE = 0.5
"""Share of the words with such a pair; texts have one in fifty."""
_SIGNS_SHARE, _SIGNS_DISTINCT = 0.85, 15
"""Share of signs that are no letter, digit or space, and how many different ones, that make noise; a ruler has few."""
_SPOKEN = (string.ascii_letters + string.digits + string.whitespace).encode()


def _find(row: RowView) -> str | None:
    signed = 2 * len(row.signs) > len(row.text)
    for answer in row.answers:
        if len(answer) >= _MIN_CHARACTERS and (found := _noise(answer, signed=signed)) is not None:
            return found
    return None


def _noise(answer: str, *, signed: bool) -> str | None:
    spaces = answer.count(" ") + answer.count("\n")
    if spaces * 12 < len(answer):
        filled = [match[0] for match in _LONG_WORD.finditer(answer)]
        joined = "".join(filled)
        mixed = any(map(str.isupper, joined)) and any(map(str.islower, joined))
        if len(joined) >= _MIN_SHARE * len(answer) and len(set(joined)) >= _MIN_DISTINCT and mixed:
            return shorten(filled[0])
        hexed = _HEX.search(joined)
        if hexed is not None and len(set(hexed[0])) >= _HEX_DISTINCT and 2 * len(joined) >= len(answer):
            return shorten(hexed[0])
    if signed and answer.isascii():
        unspoken = answer.encode().translate(None, _SPOKEN)
        if len(unspoken) >= _SIGNS_SHARE * len(answer) and len(set(unspoken)) >= _SIGNS_DISTINCT:
            return shorten(answer)
    if any(map(answer.__contains__, _COMMON)) or spaces * 3 > len(answer) or not answer.isascii():
        return None
    words = _WORD.findall(answer[:2000])
    if len(words) < _MIN_WORDS:
        return None
    odd = sum(_RARE_PAIR.search(word.lower()) is not None for word in words)
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
