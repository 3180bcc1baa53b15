"""Text that was decoded by another rule than it was encoded by, beyond UTF-8 taken for Western European."""

from __future__ import annotations

import re

_PAIR_LEADS = re.compile("[\u251c\u253c\u2568\u2564\u221a]|\u201a\u00c4|\u00e2\u20ac")
_SCRIPT_LEADS = re.compile("[\u05f3\u0637\u0638\u0e40]")
_HAN_LEADS = re.compile("[\u4e00-\u9fff]")
_HIGH_LEADS = re.compile("[\u00c0-\u00ff][\u00d9-\u00ff]{3}")
_LEADS = (_PAIR_LEADS, _SCRIPT_LEADS, _HAN_LEADS, _HIGH_LEADS)
"""What every text has, ASCII left out, in which one of the rules below finds a fault."""
_PAIRS = re.compile(
    # UTF-8 as a code page of DOS: a corner or a cross of a table, and a letter or sign that tables have not behind it
    "[\u251c\u253c\u2568\u2564][\u00a0-\u045f]"
    # UTF-8 as Mac Roman: a root of no number; three more as quotation marks, dashes and dots
    "|\u221a[\u00a2-\u00b0\u00b4-\u00b6\u00b8-\u00ff\u0152\u0153\u0178\u0192\u2020-\u2026\u2122]"
    "|\u201a\u00c4[\u00ec-\u00fa\u00b6\u00a2]"
    # UTF-8 as CP1252 with the last byte lost
    "|\u00e2\u20ac[?\u0153\u009d]"
)
_EVERY_SECOND = (
    re.compile("[\u0637\u0638][\u00a0-\u00bf\u0600-\u06ff\u2010-\u2122\u0192\u0152\u0153\u02c6]"),  # Arabic as CP1256
    re.compile("\u05f3[\u00a0-\u00bf\u05b0-\u05ea\u2010-\u2122\u0192\u02c6\u02dc\ufffd]"),  # Hebrew as CP1255
)
_THAI = re.compile("\u0e40[\u0e18\u0e19]")  # every third letter of Thai as CP874
_ASCII = bytes(range(128))
_MIN_COUNT, _MIN_SHARE = 4, 0.35
_HAN = re.compile("[\u4e00-\u9fff][^\x00-\x7f]{3,}")
_HIGH_RUN = re.compile("[\u00c0-\u00ff][\u00d9-\u00ff]{3,}")
"""Of these, a word of accented letters alone: Cyrillic or Greek of one byte a letter, taken for Latin-1."""
_MIN_HIGH_WORDS, _MIN_HIGH_LETTERS = 3, 12


def may_be_wrongly_decoded(foreign: str) -> bool:
    """Whether the characters beyond ASCII of a text are such as `find_wrong_codec` looks for."""
    return any(lead.search(foreign) is not None for lead in _LEADS)


def find_wrong_codec(text: str) -> int:
    """Find where a text was decoded by the wrong rule; -1 where it was not."""
    foreign = text.encode("utf-8", "surrogatepass").translate(None, _ASCII).decode("utf-8", "surrogatepass")
    if _PAIR_LEADS.search(foreign) is not None and (found := _PAIRS.search(text)) is not None:
        return found.start()
    if _SCRIPT_LEADS.search(foreign) is not None:
        return _repeated_lead(text)
    if _HAN_LEADS.search(foreign) is not None and (place := _utf8_as_gbk(text)) >= 0:
        return place
    return _high_words(text) if _HIGH_LEADS.search(foreign) is not None else -1


def _high_words(text: str) -> int:
    """Find words of nothing but accented letters, where there are several."""
    words = [
        run
        for run in _HIGH_RUN.finditer(text)
        if not _is_letter(text, run.start() - 1) and not _is_letter(text, run.end())
    ]
    distinct = {word[0] for word in words}
    enough = len(distinct) >= _MIN_HIGH_WORDS or (len(distinct) > 1 and sum(map(len, distinct)) >= _MIN_HIGH_LETTERS)
    return words[0].start() if enough else -1


def _is_letter(text: str, place: int) -> bool:
    return 0 <= place < len(text) and text[place].isalpha()


def _repeated_lead(text: str) -> int:
    """Find scripts whose letters all begin with the same byte in UTF-8, which is another letter elsewhere."""
    beyond = sum(not character.isascii() for character in text)
    for pattern in (*_EVERY_SECOND, _THAI):
        found = [match.start() for match in pattern.finditer(text)]
        share = 0.25 if pattern is _THAI else _MIN_SHARE
        if len(found) >= _MIN_COUNT and len(found) >= share * beyond:
            return found[0]
    return -1


def _utf8_as_gbk(text: str) -> int:
    """Find Chinese characters whose bytes in GBK are the UTF-8 of other ones."""
    for run in _HAN.finditer(text):
        try:
            data = run[0].encode("gbk")
        except UnicodeEncodeError:
            return -1
        said = _decoded_start(data)
        if len(said) >= _MIN_COUNT and 3 * len(said) + 6 >= len(data) and not said.isascii():
            return run.start()
        return -1
    return -1


def _decoded_start(data: bytes) -> str:
    """Decode bytes as UTF-8 up to the first that is none."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        return data[: error.start].decode()
