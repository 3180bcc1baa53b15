"""Put texts beyond ASCII in one form, in which words and signs can be told apart byte by byte.

Unicode forms, kinds of dashes and quotation marks, and characters that show nothing make no difference; vowel signs and
tones, powers, currencies and emoji do.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_UNSPACED = re.compile(r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese characters."""
_COMBINING = "\x1a"
_TELLING_MARKS = "\u00a7\u00b6\u00b7\u2016\u2020\u2021\u2022\u2030\u2031\u2032\u2033\u2034\u203b"
"""Marks beyond ASCII that say something: section, paragraph, product, footnotes, bullets, per mille, primes."""
_SPECIAL = {
    **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\u2014\u2015\ufe58", "-"),
    **dict.fromkeys("\u00b4\u2018\u2019\u201a\u201b\u2039\u203a\u02bc", "'"),
    **dict.fromkeys("\u00ab\u00bb\u201c\u201d\u201e\u201f\u300c\u300d\u300e\u300f\u301d\u301e\u301f", '"'),
    **dict.fromkeys(_TELLING_MARKS, None),
    "\u200b": " ",
    "\u060c": ",",
    "\u066b": ".",
    "\u066c": ",",
}


def plain(text: str) -> str:
    """Leave of what is beyond ASCII letters, digits and signs that say something, in one form, words apart."""
    found = _FOREIGN.sub(lambda match: _plain_run(match.group()), text)
    if _COMBINING in found:
        composed = unicodedata.normalize("NFC", text)
        return _FOREIGN.sub(lambda match: _plain_run(match.group()).replace(_COMBINING, ""), composed)
    return found


@lru_cache(maxsize=1 << 12)
def _plain_run(run: str) -> str:
    """Put a run of characters beyond ASCII in one form; marks a run that may combine with what stands before it."""
    normal = unicodedata.normalize("NFKC", unicodedata.normalize("NFC", run).translate(_FORMS)).casefold()
    normal = _UNSPACED.sub(r" \1 ", normal)
    return normal + _COMBINING if unicodedata.combining(run[0]) else normal


class _Forms(dict[int, str]):
    """What becomes of each character, worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = form = _form(chr(code))
        return form


_FORMS = _Forms()


def _form(character: str) -> str:
    special = _SPECIAL.get(character, "")
    if special is None:
        return f" {character} "
    if special:
        return special
    category = unicodedata.category(character)
    if category == "No":
        return _number(character)
    normal = unicodedata.normalize("NFKC", character)
    if normal.isascii():
        return f" {normal} " if category[0] == "S" else normal
    if category == "Cf" or 0xFE00 <= ord(character) <= 0xFE0F or 0xE0100 <= ord(character) <= 0xE01EF:
        return ""
    if category[0] in "LMN":
        return character
    if category[0] == "S" or category in ("Ps", "Pe", "Co", "Cn"):
        return f" {character} "
    return " "


def _number(character: str) -> str:
    """Tell powers, indices and fractions from the digits they look like."""
    form = unicodedata.decomposition(character).partition(">")[0]
    sign = {"<super": "^", "<sub": "_"}.get(form, "")
    return f" {sign}{unicodedata.normalize('NFKC', character)} "
