"""Tell whether a text ends or breaks off."""

from __future__ import annotations

import re
from enum import IntEnum


class OpenEnd(IntEnum):
    """How a text ends."""

    NO_PROSE = -1
    """It is a word, a list, a title, code: nothing that would end with a full stop."""
    CLOSED = 0
    OPEN = 1
    """Prose without a mark at its end, as some people write."""
    BROKEN = 2
    """In the middle of a clause: after a word or a comma that something must follow, or inside a quotation or
    a block of code."""


_MIN_WORDS = 5
_CANNOT_END = frozenset({
    "un", "should", "from", "avec", "very", "were", "on", "my", "as", "an", "into", "nor", "our", "its", "voor",
    "while", "lo", "sono", "einem", "von", "aber", "than", "because", "whose", "in", "is", "would", "die", "zu",
    "il", "e", "mit", "including", "et", "uma", "a", "os", "for", "en", "or", "qui", "also", "di", "o", "if",
    "du", "their", "een", "com", "but", "will", "que", "weil", "at", "y", "einen", "his", "por", "dass",
    "whereas", "by", "who", "which", "gli", "oder", "of", "being", "have", "could", "el", "developing", "para",
    "una", "um", "might", "das", "und", "must", "and", "had", "ou", "that", "was", "des", "del", "although",
    "het", "per", "those", "every", "le", "can", "las", "der", "los", "les", "your", "be", "with", "pour", "to",
    "are", "van", "the", "con", "shall", "such", "de", "ein", "che", "been", "la", "may", "une", "dans", "eine",
    "these", "has",
})  # fmt: skip
_STRONG = frozenset({
    "from", "with", "a", "or", "my", "an", "into", "und", "the", "our", "its", "and", "ou", "their", "although",
    "but", "because", "whose", "y", "der", "whereas", "which", "your", "et", "oder", "of",
})  # fmt: skip
"""Words that end no sentence, not even a careless one."""
_LAST_WORD = re.compile(r"([^\W\d_]+)\W*$")
_WORD_CHARACTER = re.compile(r"\w")
_SIGNS = frozenset("@#/_\\=<>{}")
_DASHES = frozenset("-\u2013\u2014~")
_LIST_ITEM = re.compile(r"\s*(?:[-*+\u2022\u2013>|#]|\d{1,3}[.)]|[A-Za-z][.)]|\[)\s*")
_CODE_LINE = re.compile(
    r"\s*(?:return|raise|yield|import|from|print|def|class)\b"
    r"|.*(?:\w[\])]? (?:[-+*/|&]?=|==|!=|:=|=>) \S|[;{}])"
)
"""The last line of a program may have words at its end, as a formula has."""
_INDENTED = re.compile(r"(?: {2,}|\t)(?!\s*[-*+\u2022])(?=.*[()\[\]_=])")
_FENCE = re.compile(r"^[ \t>]*```", re.MULTILINE)
_OPENED = re.compile(r"\"|\u201c|\u201d|\u201e|\(|\)|\u00ab|\u00bb")
_SIGNED = re.compile(r"(?:^|[\s\"\u201d])[-\u2013\u2014~] ?(?:[A-Z][\w.']*[ .]?){1,4}$")
"""A name behind a dash, as under a quotation."""
_SENTENCE_END = re.compile(r"[.!?\u2026\u3002\uff01\uff1f\u0964\u06d4:;\"\u201d\u2019'\u00bb)\]}*`~>]\s*$")


def open_end(answer: str) -> OpenEnd:
    """Say how an answer ends."""
    text = answer.rstrip()
    if not text:
        return OpenEnd.NO_PROSE
    if "```" in text and len(_FENCE.findall(text)) % 2 == 1:
        return OpenEnd.BROKEN
    last = text[-1]
    if not (last.isalpha() or last in ",-\u2013\u2014"):
        return OpenEnd.CLOSED
    if last > "\u2e80" or text.count(" ", -400) < _MIN_WORDS - 1:
        return OpenEnd.NO_PROSE
    lines = text[-2000:].split("\n")
    line = lines[-1]
    words = line.split()
    if (
        not _SIGNS.isdisjoint(words[-1])
        or (not _DASHES.isdisjoint(line) and _SIGNED.search(line))
        or "." in words[-1][:-1]
        or _CODE_LINE.match(line)
        or _INDENTED.match(line)
    ):
        return OpenEnd.NO_PROSE
    if _is_title(words) or (len(lines) > 1 and not _prose_before(lines[:-1], line)):
        return OpenEnd.NO_PROSE
    return _how_open(text, line, last)


def _is_title(words: list[str]) -> bool:
    """Whether most words begin with a capital, as in English titles and in lists of names."""
    long = [word for word in words if len(word) > 3]
    return len(words) <= 14 and bool(long) and sum(word[0].isupper() for word in long) * 4 >= len(long) * 3


def _prose_before(lines: list[str], line: str) -> bool:
    """Whether the lines before are sentences, so that the last one should be too."""
    filled = [before for before in lines if before.strip()]
    if not filled:
        return True
    if _LIST_ITEM.match(line):
        items = [before for before in filled if _LIST_ITEM.match(before)] or filled
        ended = sum(_SENTENCE_END.search(before) is not None and not before.rstrip().endswith(":") for before in items)
        return ended * 5 >= len(items) * 4 and len(line.split()) > _MIN_WORDS
    ended = sum(_SENTENCE_END.search(before) is not None for before in filled)
    return ended * 2 >= len(filled) and len(line.split()) > _MIN_WORDS


def _last_word(line: str) -> str:
    """Give the letters that end a line but for marks; "" where a digit or an underscore follows them."""
    for piece in reversed(line.split()):
        if not piece.isalpha():
            found = _LAST_WORD.search(piece)
            if found is None and _WORD_CHARACTER.search(piece) is None:
                continue
            return found[1] if found else ""
        return piece
    return ""


def _how_open(text: str, line: str, last: str) -> OpenEnd:
    word = _last_word(line)
    if last == "," or word in _STRONG:
        return OpenEnd.BROKEN
    several = re.search(r"[.!?] ", text[:-1]) is not None
    opened = "".join(_OPENED.findall(line))
    straight = opened.count('"') + (opened.count("\u201e") if "\u201c" not in opened and "\u201d" not in opened else 0)
    unclosed = (
        straight % 2 == 1 or opened.count("\u201c") > opened.count("\u201d") or opened.count("(") > opened.count(")")
    )
    if several and (word in _CANNOT_END or unclosed):
        return OpenEnd.BROKEN
    return OpenEnd.OPEN if several or len(line.split()) >= _MIN_WORDS else OpenEnd.NO_PROSE
