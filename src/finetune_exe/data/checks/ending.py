"""Tell whether a text ends or breaks off."""

from __future__ import annotations

import json
import re
from enum import IntEnum

from finetune_exe.data.checks.code_end import code_breaks_off


class OpenEnd(IntEnum):
    """How a text ends."""

    NO_PROSE = -1
    """It is a word, a list, a title, code: nothing that would end with a full stop."""
    CLOSED = 0
    BARE = 1
    """A phrase on a line of its own: no sentence that breaks off, though it may be how somebody writes sentences."""
    OPEN = 2
    """Prose without a mark at its end, as some people write."""
    BROKEN = 3
    """In the middle of a clause: after a word or a comma that something must follow, or inside a quotation or
    a block of code."""


_MIN_PIECES, _PHRASE_WORDS = 4, 7
"""Words or phrases that make a list; with half of either, 16 lists at the ends of 14,365 public answers break off."""
_BETWEEN_WORDS = re.compile(r"[,;|]")
_FEW_WORDS, _MIN_WORDS, _MANY_WORDS = 3, 5, 12
"""Words of a clause before a comma, of a sentence that is short, and of one that no title or phrase is as long as."""
_CANNOT_END = frozenset({
    "un", "should", "from", "avec", "very", "were", "on", "my", "as", "an", "into", "nor", "our", "its", "voor",
    "while", "lo", "sono", "einem", "von", "aber", "than", "because", "whose", "in", "is", "would", "die", "zu",
    "il", "e", "mit", "including", "et", "uma", "a", "os", "for", "en", "or", "qui", "also", "di", "o", "if",
    "du", "their", "een", "com", "but", "will", "que", "weil", "at", "y", "einen", "his", "por", "dass",
    "whereas", "by", "who", "which", "gli", "oder", "of", "being", "have", "could", "el", "developing", "para",
    "una", "um", "might", "das", "und", "must", "and", "had", "ou", "that", "was", "des", "del", "although",
    "het", "per", "those", "every", "le", "can", "las", "der", "los", "les", "your", "be", "with", "pour", "to",
    "are", "van", "the", "con", "shall", "such", "de", "ein", "che", "been", "la", "may", "une", "dans", "eine",
    "these", "has", "adalah", "dari", "pada", "karena", "bahwa", "oleh", "sebagai", "\u043f\u043e",
    "\u043f\u0440\u0438",
    "\u0447\u0442\u043e", "\u043a\u0430\u043a", "\u043d\u0435", "\u0430", "\u043a", "\u0434\u043e", "\u0639\u0646",
    "\u0645\u0639", "\u0623\u0648",
})  # fmt: skip
_STRONG = frozenset({
    "from", "with", "a", "or", "my", "an", "into", "und", "the", "our", "its", "and", "ou", "their", "although",
    "but", "because", "whose", "y", "der", "whereas", "which", "your", "et", "oder", "of", "dan", "yang", "untuk",
    "dengan", "atau", "\u0438", "\u0432", "\u043d\u0430", "\u0441", "\u0434\u043b\u044f", "\u0438\u0437",
    "\u043e\u0442", "\u0438\u043b\u0438",
    "\u043d\u043e", "\u0447\u0442\u043e\u0431\u044b", "\u043a\u043e\u0442\u043e\u0440\u044b\u0439",
    "\u043a\u043e\u0442\u043e\u0440\u044b\u0435",
    "\u043a\u043e\u0442\u043e\u0440\u0430\u044f", "\u0645\u0646", "\u0641\u064a", "\u0639\u0644\u0649",
    "\u0625\u0644\u0649", "\u0623\u0646", "\u0627\u0644\u062a\u064a",
    "\u0627\u0644\u0630\u064a",
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


_CUT = re.compile(
    r"[\[(<{\uff08\u3010]\s*(?:(?:\.\.\.|\u2026)?\s*(?:the )?(?:output|message|text|response|answer|content"
    r"|rest)?\s*(?:was |has been |is )?"
    r"(?:truncated|cut(?: off| short)?|continue[ds]?|to be continued|cont'?d?\.?|snip(?:ped)?|omitted|tbc"
    r"|(?:finish|stop)_reason:? ?\w+|(?:max(?:imum)?[ _]?)?(?:tokens?|length)(?: limit)?(?: reached| exceeded)?"
    r"|\+?\d+ (?:more )?(?:chars|characters|words|tokens|lines)"
    r"|\u043f\u0440\u043e\u0434\u043e\u043b\u0436\u0435\u043d\u0438\u0435 "
    r"\u0441\u043b\u0435\u0434\u0443\u0435\u0442|\u043e\u0431\u0440\u0435\u0437\u0430\u043d\u043e"
    r"|\u672a\u5b8c\u5f85\u7eed|\u672a\u5b8c|\u5f85\u7eed|\u7701\u7565|\u4e0b\u7565|\u7d9a\u304f|\u3064\u3065\u304f|\u064a\u062a\u0628\u0639"
    r"|bersambung|continua|segue|continuar\u00e1|fortsetzung folgt|\u00e0 suivre|suite)\b[^\])>}\uff09\u3011\n]{0,20}"
    r"|\.\.\.|\u2026)\s*[\])>}\uff09\u3011]+\Z|(?:\.\.\.|\u2026) ?(?:read|see|show) more\Z|(?:\.\.\."
    r"|\u2026) ?[(\[](?:more|read more[^\])]{0,4})[)\]]\Z|\[(?:read more|continue reading)[^\]\n]{0,4}\]\Z"
    r"|(?:\.\.\.|\u2026|\]) ?continue reading[ \u2192>\u00bb]*\Z",
    re.IGNORECASE,
)
"""What says that a text was cut."""
_CUT_CHARACTERS = 60
"""Characters at the end of a text that hold what says that it was cut."""
_STUB = re.compile(r"\n[ \t]*(?:\d{1,3}[.)]|[-*\u2022])\Z")
"""An item of a list with nothing in it."""
_HEADING = re.compile(
    r"\n[ \t]*(?:#{2,6} [^\n]*[^\W\d_]{3}[^\n]*|(?:\d{1,2}[.)] )?\*\*(?:\d{1,2}[.)] )?[^\n*]+:\*\*)\Z"
)
"""A heading with nothing below it."""
_ANNOUNCES = re.compile(
    r"\b(?:here (?:is|are)|following|as follows|below|these (?:are|steps)|steps|examples?|for instance|such as)\b"
    r"[^.!?\n]{0,50}:\Z",
    re.IGNORECASE,
)
"""A last line that leads in to something."""
_OPEN_BOLD = re.compile(r"(?:^|\s)\*\*\w[^*\n]{0,40}\Z")
_DOTS = re.compile(r"(?:\.\.\.+|\u2026)\Z")
_SO_ON = re.compile(r"\b(?:etc|so (?:on|forth)|usw|ecc)\Z", re.IGNORECASE)
_JSON = re.compile(r"(?:^|\n)[ \t]*([{\[][ \t\n]*[{\"])")
_JSON_END = 12
"""Characters at the end of a text in which JSON that breaks off stops making sense: in a number or a word."""
_SENTENCE = re.compile(r"(?:The|An?|This|That|These|Those|It|He|She|They|We|I|You|There)\b[^:]*\Z")
"""A line that begins as a sentence does, and names nothing with a colon."""
_WIDE_STOP = re.compile("[\u3002\uff01\uff1f]")
_WIDE_COMMAS = "\uff0c\u3001\uff1b\u060c"
_WIDE, _HANGUL = "\u2e80", "\uac00"
_CLOSING = frozenset(")]>}\u2026\uff09\u3011([{-*" + _WIDE_COMMAS)
"""Marks that end a text, and also texts that break off."""
_MIN_LETTERS = 5
"""Letters of a Chinese or Japanese text behind its last full stop: fewer are a name or a greeting."""


def open_end(answer: str) -> OpenEnd:
    """Say how an answer ends."""
    text = answer.rstrip()
    if not text:
        return OpenEnd.NO_PROSE
    if "```" in text and len(_FENCE.findall(text)) % 2 == 1:
        return OpenEnd.BROKEN
    if code_breaks_off(text):
        return OpenEnd.BROKEN
    last = text[-1]
    if last not in "}].!?`" and (text[0] in "{[" or "\n{" in text or "\n[" in text) and _is_cut_json(text):
        return OpenEnd.BROKEN
    if _may_be_marked(text, last) and (end := _marked_end(text, last)) is not None:
        return end
    if last == ":" and _ANNOUNCES.search(text[-_CUT_CHARACTERS:]) is not None:
        return OpenEnd.BROKEN
    if last.isalpha() and text.rfind("**", -_CUT_CHARACTERS) > 0 and _OPEN_BOLD.search(text) and text.count("**") % 2:
        return OpenEnd.BROKEN
    if not (last.isalpha() or last in ",-\u2013\u2014"):
        return OpenEnd.CLOSED
    if last > _WIDE and last < _HANGUL:
        return _wide_end(text)
    if text.count(" ", -400) < (_MIN_WORDS if last != "," else _FEW_WORDS) - 1:
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
    if _is_title(words) or _is_numbered_list(line) or (len(lines) > 1 and not _prose_before(lines[:-1], line)):
        return OpenEnd.NO_PROSE
    return _how_open(text, line, last)


def _is_cut_json(text: str) -> bool:
    """Whether a text ends within an object or a list of JSON that began with a line."""
    begun = _JSON.search(text)
    if begun is None:
        return False
    try:
        json.loads(text[begun.start(1) :])
    except json.JSONDecodeError as error:
        said = text[begun.start(1) :]
        return (
            error.pos >= len(said) - 1
            or error.msg.startswith("Unterminated")
            or (error.pos >= len(said) - _JSON_END and "delimiter" in error.msg)
        )
    except RecursionError:
        return False
    return False


def _may_be_marked(text: str, last: str) -> bool:
    """Whether a text ends in a way that `_marked_end` judges."""
    if last in "#*:|" or (last.isalnum() and text.rfind("\n#", -80) >= 0):
        return True
    if last == ".":
        return text[-2:-1] == "." or text[-2:-1].isdigit()
    return last in _CLOSING or text.endswith((" more", " More", " reading", "\u2192"))


def _marked_end(text: str, last: str) -> OpenEnd | None:
    """Judge a text by the mark at its end, where that says more than that it ends."""
    tail = text[-_CUT_CHARACTERS:]
    if last in _WIDE_COMMAS or _STUB.search(tail) is not None or _CUT.search(tail) is not None:
        return OpenEnd.BROKEN
    if "\n" in tail and (_HEADING.search(tail) is not None or (last == "|" and _is_cut_table(text))):
        return OpenEnd.BROKEN
    if last in "([{" and (text[-2:-1].isalnum() or text[-2:-1] in " }"):
        return OpenEnd.BROKEN
    dots = _DOTS.search(tail)
    if dots is None:
        return None
    before = text[: -len(dots[0])].rstrip()
    if before.endswith(",") or (_last_word(before.rsplit("\n", 1)[-1]) in _STRONG and " " in before):
        return OpenEnd.BROKEN
    trails = (
        before[-1:].isalpha()
        and _SO_ON.search(before) is None
        and "..." not in before
        and "\u2026" not in before
        and _tells(before)
    )
    return OpenEnd.BROKEN if trails else OpenEnd.CLOSED


def _is_cut_table(text: str) -> bool:
    """Whether the last row of a table has fewer cells than the one before."""
    lines = text[-2000:].split("\n")
    return len(lines) > 2 and lines[-1].count("|") < lines[-2].count("|") and lines[-2].lstrip().startswith("|")


def _tells(text: str) -> bool:
    """Whether a text is prose of some length, not a saying or lines of a poem."""
    stops = len(_STOP.findall(text)) + len(_WIDE_STOP.findall(text))
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and not stops and 2 * sum(_SENTENCE_END.search(line) is not None for line in lines) < len(lines):
        return False
    num_words = text.count(" ") + 1 if text[-1] < _WIDE else len(text) // 2
    return num_words >= (_MIN_WORDS if stops else _MANY_WORDS)


def _wide_end(text: str) -> OpenEnd:
    """Judge a text in a script without spaces that ends with a letter."""
    line = text[-2000:].rsplit("\n", 1)[-1]
    stops = [stop.end() for stop in _WIDE_STOP.finditer(line)]
    if not stops and "\n" in text:
        lines = [before for before in text[-2000:].split("\n")[:-1] if before.strip()]
        ended = sum(_SENTENCE_END.search(before) is not None for before in lines)
        if 2 * ended < len(lines) or _LIST_ITEM.match(line) or _WIDE_STOP.search(text) is None:
            return OpenEnd.NO_PROSE
    elif len(stops) < 1:
        return OpenEnd.NO_PROSE
    if len(stops) == 1 and line[stops[0] - 1] != "\u3002":
        return OpenEnd.NO_PROSE
    return OpenEnd.OPEN if len(line) - (stops[-1] if stops else 0) >= _MIN_LETTERS else OpenEnd.NO_PROSE


_NUMBERED = re.compile(r"(?:^|\s)(\d{1,2})[.)] ")
_ITEM_WORDS = 5
"""Words of an item of a list that stands on one line; where there are more, the items are sentences."""
_STOP = re.compile(r"[.!?] ")


def _is_word_list(line: str) -> bool:
    """Whether a line is words or short phrases with marks between them, and no sentence."""
    pieces = [len(piece.split()) for piece in _BETWEEN_WORDS.split(line)]
    return len(pieces) >= _MIN_PIECES and max(pieces) <= _PHRASE_WORDS and sum(pieces) <= _MIN_PIECES * len(pieces)


def _is_numbered_list(line: str) -> bool:
    """Whether a line is short items, each with its number."""
    numbers = list(map(int, _NUMBERED.findall(line)))
    return numbers[:3] == [1, 2, 3] and line.count(" ") <= _ITEM_WORDS * len(numbers)


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
    several = re.search(r"[.!?]\s", text) is not None
    opened = "".join(_OPENED.findall(line))
    straight = opened.count('"') + (opened.count("\u201e") if "\u201c" not in opened and "\u201d" not in opened else 0)
    unclosed = straight % 2 == 1 or opened.count("\u201c") > opened.count("\u201d")
    if opened.count("(") > opened.count(")"):
        return OpenEnd.BROKEN
    if several and (word in _CANNOT_END or unclosed):
        return OpenEnd.BROKEN
    if _is_word_list(line):
        return OpenEnd.NO_PROSE
    num_words = len(line.split())
    if not several and num_words < _MIN_WORDS:
        return OpenEnd.NO_PROSE
    tells = several or "\n" in text or num_words >= _MANY_WORDS or _SENTENCE.match(line) is not None
    return OpenEnd.OPEN if tells else OpenEnd.BARE
