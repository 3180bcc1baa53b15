"""Characters that a person does not see, or that stand for lost ones."""

from __future__ import annotations

import re
import unicodedata

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.row import RowView

_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ufdd0-\ufdef\ufffe\uffff]")
"""All but tab, line feed, form feed, carriage return and next line, which lay out text; and what Unicode says is no
character."""
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""A command that colours a terminal or moves its cursor."""
_INVISIBLE = re.compile(
    "[\u202a-\u202e\u2066-\u2069\u2060-\u2064\ufeff\u115f\u1160\u3164\u180e\U000e0001-\U000e007f\ufff9-\ufffb]"
    r"|(?<![\u0e00-\u109f\u1780-\u17ff])\u200b(?![\u0e00-\u109f\u1780-\u17ff])"
    "|(?<=[A-Za-z\u00c0-\u024f\u0370-\u052f])[\u200b-\u200f\u034f](?=[A-Za-z\u00c0-\u024f\u0370-\u052f])"
    "|(?<=[A-Za-z\u00c0-\u024f])[\ufe00-\ufe0d\U000e0100-\U000e01ef]+"
    "|(?<=[A-Za-z\u00c0-\u024f])[\ufe0e\ufe0f](?=[A-Za-z\u00c0-\u024f])"
    "|(?<=[A-Za-z\u00c0-\u024f\u0370-\u052f])\u00ad"
    "|[\u2028\u2029\ufffc\ue000-\uf8fe]|(?<![\u2800-\u28ff])\u2800(?![\u2800-\u28ff])"
)
"""Direction marks, joiners, blanks of no width, hyphens that show at a line's end only, characters of one font alone;
not where a script is written with them."""
_MARKS = re.compile(
    "[\u00ad\u034f\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\u2800\u3164\ue000-\uf8fe"
    "\ufe00-\ufe0f\ufeff\ufff9-\ufffc\U000e0001-\U000e007f\U000e0100-\U000e01ef]"
)
_TAGGED_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007f]+")
"""Flags of regions are written with tag characters."""
_LOOKALIKE = (
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u051b\u051d"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0406\u0408\u0405"
)
"""Cyrillic letters that look like Latin ones."""
_LATIN = str.maketrans(_LOOKALIKE, "aeopcyxijshdqwABEKMHOPCTXIJS")
_CYRILLIC = re.compile("[\u0400-\u052f]")
_TO_CYRILLIC = str.maketrans("aceopxy", "\u0430\u0441\u0435\u043e\u0440\u0445\u0443")
_GREEK = "\u03bf\u03bd\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u0585"
"""Greek letters, and one Armenian, that look like Latin ones."""
_LATIN |= str.maketrans(_GREEK, "ovABEZHIKMNOPTYXo")
_MAYBE_MIXED = re.compile(f"[\u0400-\u052f{_GREEK}]")
_MIXED_LETTERS = re.compile(f"[{_LOOKALIKE}{_GREEK}][A-Za-z]|[A-Za-z][{_LOOKALIKE}{_GREEK}]")
_MIXED_WORD = re.compile(
    rf"(?:(?<![\u0370-\u04ff])[A-Za-z]{{2,}}[{_LOOKALIKE}]+[A-Za-z]"
    rf"|(?<![A-Za-z\u0370-\u04ff])[A-Za-z]+[{_LOOKALIKE}]+[A-Za-z]{{2,}}"
    rf"|(?<![A-Za-z\u0370-\u04ff])[{_LOOKALIKE}][A-Za-z]{{3,}}"
    rf"|(?<![A-Za-z\u0370-\u04ff])[A-Z](?:[{_LOOKALIKE}][A-Za-z]){{2,}}"
    rf"|(?<![\u0370-\u04ff])[A-Za-z]{{3,}}[{_LOOKALIKE}](?![A-Za-z\u0370-\u04ff])"
    rf"|(?<![\u0370-\u058f])(?:[A-Za-z]{{2,}}[{_GREEK}]+[A-Za-z]|[A-Za-z]+[{_GREEK}]+[A-Za-z]{{2,}}"
    rf"|[{_GREEK}][a-z]{{3,}}))"
)
"""A word of Latin letters with some among them that only look so."""
_MIXED_CYRILLIC = re.compile(
    "[\u0430-\u044f\u0451]{2}[aceopxy][\u0430-\u044f\u0451]|[\u0430-\u044f\u0451][aceopxy][\u0430-\u044f\u0451]{2}"
)
"""A word of Cyrillic letters with a Latin one in it."""
_STYLED = re.compile("[\U0001d400-\U0001d7cb]{4}|(?<![\uff21-\uff5a])[\uff21-\uff3a\uff41-\uff5a]{3}")
"""Letters of formulas, or of the width of Chinese characters, that spell a word."""
_STYLED_WORD = re.compile("[\U0001d400-\U0001d7cb]{4,}|[\uff21-\uff3a\uff41-\uff5a]{3,}")
_EAST_ASIAN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


_LOST = re.compile(r"(?<![\w/.=&?-])(?:[^\W\d_]+\?[a-z]{1,}|[^\W\d_]{1,2}\?[^\W\d_]{2,})(?:\?[^\W\d_]+)*(?![\w=/&])")
"""A word with a question mark in it, as it stands for a letter that an encoding does not have."""
_MIN_LOST = 3
"""Such words in a row: one alone is a missing space, as in "page?www", once in 28,986 rows of public files."""
_STACKED = re.compile("[\u0300-\u036f]{3}")
_ZALGO = re.compile("[A-Za-z][\u0300-\u036f]{3}")
"""A letter with more marks on it than any language writes."""


def without_control(text: str) -> str:
    """Take out the characters that `control_characters` finds, and the rest of commands to a terminal."""
    return _CONTROL.sub("", _COLOUR.sub("", text))


def without_invisible(text: str) -> str:
    """Take out the marks that `invisible_characters` finds, and write Latin words in Latin letters."""
    pieces, end = [], 0
    for flag in _TAGGED_FLAG.finditer(text):
        pieces += [_INVISIBLE.sub(_shown, text[end : flag.start()]), flag[0]]
        end = flag.end()
    plain = "".join([*pieces, _INVISIBLE.sub(_shown, text[end:])])
    if not _EAST_ASIAN.search(plain):
        plain = _STYLED_WORD.sub(lambda word: unicodedata.normalize("NFKC", word[0]), plain)
    while (latin := _MIXED_WORD.sub(lambda word: word[0].translate(_LATIN), plain)) != plain:
        plain = latin
    while (cyrillic := _MIXED_CYRILLIC.sub(lambda word: word[0].translate(_TO_CYRILLIC), plain)) != plain:
        plain = cyrillic
    return plain


def _shown(mark: re.Match[str]) -> str:
    """Give what a mark without a shape stands for: nothing, but for ends of lines and a blank."""
    return {"\u2028": "\n", "\u2029": "\n\n", "\u2800": " "}.get(mark[0], "")


def _control(row: RowView) -> str | None:
    if _CONTROL.search(row.signs) is None and _CONTROL.search(row.foreign) is None:
        return None
    found = _CONTROL.search(row.text)
    return None if found is None else f"U+{ord(found[0]):04X} in: {shorten(row.text, found.start())}"


def _invisible(row: RowView) -> str | None:
    if row.is_ascii:
        return None
    text, foreign = row.text, row.foreign
    if _MARKS.search(foreign):
        if "\U0001f3f4" in text:
            text = _TAGGED_FLAG.sub("", text)
        found = _INVISIBLE.search(text)
        if found is not None:
            return f"U+{ord(found[0][0]):04X} in: {shorten(text, found.start())}"
    if _MAYBE_MIXED.search(foreign) and _MIXED_LETTERS.search(text):
        if (found := _MIXED_WORD.search(text)) is not None:
            script = "Cyrillic" if _CYRILLIC.search(found[0]) else "Greek or Armenian"
            return f"{script} letters in a Latin word: {found[0]}"
        if (found := _MIXED_CYRILLIC.search(text)) is not None:
            return f"a Latin letter in a Cyrillic word: {found[0]}"
    if _STACKED.search(foreign) is not None and (zalgo := _ZALGO.search(text)) is not None:
        return f"marks heaped on letters: {shorten(text, zalgo.start())}"
    found = _STYLED.search(foreign)
    if found is None or (found[0] > "\ue000" and found[0] < "\uffff" and _EAST_ASIAN.search(foreign)):
        return None
    found = _STYLED.search(text)
    return None if found is None else f"letters of another style spell a word: {shorten(text, found.start())}"


def _replacement(row: RowView) -> str | None:
    if "\ufffd" in row.foreign:
        return shorten(row.text, row.text.find("\ufffd"))
    num_signs = row.signs.count("?")
    if num_signs < _MIN_LOST or 2 * row.text.count("? ") >= num_signs:
        return None
    lost = list(_LOST.finditer(row.text))
    return shorten(row.text, lost[0].start()) if len(lost) >= _MIN_LOST and 2 * len(lost) > num_signs else None


CHECKS = (
    RowCheck(
        code="control_characters",
        severity="error",
        message="the text holds control characters, such as those that colour a terminal",
        fix="remove the characters",
        find=_control,
        example=asked("Area?", "The area\x1b[31m is 44."),
        counterexample=asked("Area?", "The area\tis\r\n44."),
    ),
    RowCheck(
        code="invisible_characters",
        severity="warning",
        message="the text holds characters that cannot be seen or that look like others",
        fix="remove the characters, or write the letters of the script they seem to be of",
        find=_invisible,
        example=asked("Which sum?", "The corre\u2066ct sum."),
        counterexample=asked(
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645?",
            "\U0001f469\u200d\U0001f680 \u0645\u06cc\u200c\u0631\u0648\u0645",
        ),
    ),
    RowCheck(
        code="replacement_character",
        severity="warning",
        message="characters were lost when the text was decoded (they show as a question mark in a diamond)",
        fix="take the row from its source again, decoded as what it is",
        find=_replacement,
        example=asked("A\ufffd\ufffd list?", "Here it is."),
        counterexample=asked("A caf\u00e9?", "Here it is."),
    ),
)
