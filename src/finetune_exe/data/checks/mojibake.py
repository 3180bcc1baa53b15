"""UTF-8 that was read as a single-byte encoding."""

from __future__ import annotations

import re
import unicodedata

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.row import RowView
from finetune_exe.data.checks.wrong_codecs import find_wrong_codec, may_be_wrongly_decoded

_HIGH = "".join(bytes([code]).decode("cp1252", errors="ignore") or chr(code) for code in range(0x80, 0xC0))
"""What CP1252 and Latin-1 make of the bytes that continue a character of UTF-8."""
_NEXT = f"[{re.escape(_HIGH)}\x80-\x9f]"
_RUN = re.compile(f"(?:[\u00c2-\u00df]{_NEXT}|[\u00e0-\u00ef]{_NEXT}{{2}}|\u00f0{_NEXT}{{3}})+")
"""Characters whose bytes would be UTF-8."""
_START = re.compile(f"[\u00c2-\u00f0]{_NEXT}")
_DOUBLE = re.compile("[\u0420\u0421][\u0402-\u040f\u0452-\u045f\u0490\u0491\u00a0-\u00bb\u2010-\u2122\u0410-\u044f]")
"""Cyrillic of UTF-8 read as CP1251: every second letter is one of two."""
_JAPANESE = ("\u7e3a", "\u7e67", "\u7e5d")
"""What Shift JIS makes of the two first bytes of Japanese letters in UTF-8; all three are hardly ever written."""
_MIN_JAPANESE = 4
"""A sentence has as many; one alone may be meant."""
_FIXED = ("\u951f\u65a4\u62f7", "\u70eb\u70eb\u70eb", "\u5c6f\u5c6f\u5c6f", "\u00ef\u00bf\u00bd", "\u00c3\u0083\u00c2")
"""What is left of lost characters after a second wrong decoding."""
_MIN_CYRILLIC = 6
"""Pairs of letters, as two words have them."""
_CLOSING = "\u00bb\u2019\u201d\u2026\u2013\u2014\u00b0"
_QUOTES = "\u2018\u2019\u201c\u201d\u00ab\u00bb\u2013\u2014\u20ac\u2026"
_WIDE = 0x2E80
"""The first character of East Asia."""
_LIKELY = ((0xA0, 0x180), (0x370, 0x450), (0x5D0, 0x5EB), (0x621, 0x6D4))
"""Two-byte characters that texts are full of: accented Latin, Greek, Cyrillic, Hebrew, Arabic."""
_WIDE_COMMA = frozenset(map(ord, "\u3001\u3002\uff0c\uff01\uff1f\uff1a\uff1b\uff08\uff09"))
"""Punctuation as wide as Chinese characters."""
_SIGNS = (
    (0x2010, 0x2030),
    (0x2039, 0x203B),
    (0x20AC, 0x20AD),
    (0x2122, 0x2123),
    (0x2190, 0x2200),
    (0x2260, 0x2266),
    (0x25A0, 0x27C0),
)
"""Punctuation, currency, arrows, comparisons, symbols."""


def find_mojibake(text: str) -> int:
    """Find where a text has UTF-8 read as something else; -1 where it has not."""
    for match in _RUN.finditer(text) if _START.search(text) else ():
        if _is_decoded(match[0], before=text[max(0, match.start() - 1) : match.start()]):
            return match.start()
    for sign in _FIXED:
        place = text.find(sign)
        if place >= 0:
            return place
    if any(map(text.__contains__, _JAPANESE)) and sum(map(text.count, _JAPANESE)) >= _MIN_JAPANESE:
        return min(place for place in map(text.find, _JAPANESE) if place >= 0)
    if ("\u0420" in text or "\u0421" in text) and (place := _cyrillic(text)) >= 0:
        return place
    return find_wrong_codec(text)


def undo_mojibake(text: str) -> str:
    """Read a text as UTF-8 again where it shows that it was read as something else; other texts stay as they are."""
    if text.isascii() or find_mojibake(text) < 0:
        return text
    import ftfy

    return ftfy.fix_encoding(text, ftfy.TextFixerConfig(replace_lossy_sequences=False))


def _is_decoded(run: str, *, before: str) -> bool:
    """Whether characters are, byte for byte, the UTF-8 of others that are likelier here."""
    data = b"".join(_byte(character) for character in run)
    try:
        said = data.decode()
    except UnicodeDecodeError:
        return False
    if not all(_is_likely(character) for character in said):
        return False
    if ord(said[0]) >= _WIDE and all(sign in _QUOTES for sign in run if not sign.isalpha()):
        return False  # a letter with an accent before quotation marks or dashes
    if len(said) > 1:
        return True
    # A capital with a closing quote behind it also makes a letter: "CAFE" in quotes is no mojibake. Nor is the end of
    # a French quotation, where an accented letter, a no-break space and a closing quote make a Chinese character.
    if len(run) == 2:
        return run[1] not in _CLOSING or not before.isupper()
    return ord(said) < _WIDE or len(run) == 4


def _byte(character: str) -> bytes:
    try:
        return character.encode("cp1252")
    except UnicodeEncodeError:
        return character.encode("latin-1", errors="replace")


def _is_likely(character: str) -> bool:
    code = ord(character)
    if code < 0x2000:
        return any(first <= code < last for first, last in _LIKELY) or (
            code >= 0x900 and unicodedata.category(character)[0] in "LM"
        )
    if code < _WIDE:
        return any(first <= code < last for first, last in _SIGNS)
    return code != 0xFFFD and (code in _WIDE_COMMA or unicodedata.category(character)[0] in "LSM")


def _cyrillic(text: str) -> int:
    found = [match.start() for match in _DOUBLE.finditer(text)]
    if len(found) < _MIN_CYRILLIC or len(found) * 3 < sum("\u0400" <= character < "\u0500" for character in text):
        return -1
    try:
        piece = text[found[0] : found[0] + 2 * _MIN_CYRILLIC].split(maxsplit=1)[0]
        said = piece.encode("cp1251").decode("utf-8", errors="ignore")
    except (UnicodeEncodeError, IndexError):
        return -1
    return found[0] if len(said) * 2 >= len(piece) - 1 and said.isalpha() else -1


def _may_be_mojibake(foreign: str) -> bool:
    """Whether the characters beyond ASCII of a text are such as `find_mojibake` looks for."""
    return (
        _START.search(foreign) is not None
        or "\u0420" in foreign
        or "\u0421" in foreign
        or any(map(foreign.__contains__, _FIXED))
        or may_be_wrongly_decoded(foreign)
    )


def _find(row: RowView) -> str | None:
    if row.is_ascii or not _may_be_mojibake(row.foreign):
        return None
    place = find_mojibake(row.text)
    return None if place < 0 else shorten(row.text, place)


CHECKS = (
    RowCheck(
        code="mojibake",
        severity="error",
        message="the text was decoded by another encoding than it was written in",
        fix="read the source again in its own encoding, or undo it, as UTF-8: text.encode('cp1252').decode('utf-8')",
        find=_find,
        example=asked("Who?", "Sh\u00c3\u00a9 said \u00e2\u20ac\u0153yes\u00e2\u20ac\u009d."),
        counterexample=asked("Wer?", "\u00c4hnlich: na\u00efve caf\u00e9 \u2013 S\u00c3O PAULO, 20 \u00b0C"),
    ),
)
