"""Characters that a person does not see, or that stand for lost ones."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.row import RowView

_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f]")
"""All but tab, line feed, form feed, carriage return and next line, which lay out text."""
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""A command that colours a terminal or moves its cursor."""
_INVISIBLE = re.compile(
    "[\u202a-\u202e\u2066-\u2069\u2060-\u2064\ufeff\u115f\u1160\u3164\u180e\U000e0001-\U000e007f\ufff9-\ufffb]"
    r"|(?<![\u0e00-\u109f\u1780-\u17ff\u3000-\ud7af\uff00-\uffef])\u200b(?![\u0e00-\u109f\u1780-\u17ff\u3000-\ud7af\uff00-\uffef])"
    "|(?<=[A-Za-z\u00c0-\u024f])[\u200b-\u200f](?=[A-Za-z\u00c0-\u024f])"
)
"""Direction marks, joiners and blanks of no width; not where a script is written with them."""
_MARKS = re.compile(
    "[\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\u3164\ufeff\ufff9-\ufffb\U000e0001-\U000e007f]"
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
_MIXED_LETTERS = re.compile(f"[{_LOOKALIKE}][A-Za-z]|[A-Za-z][{_LOOKALIKE}]")
_MIXED_WORD = re.compile(
    rf"(?:(?<![\u0370-\u04ff])[A-Za-z]{{2,}}[{_LOOKALIKE}]+[A-Za-z]"
    rf"|(?<![A-Za-z\u0370-\u04ff])[A-Za-z]+[{_LOOKALIKE}]+[A-Za-z]{{2,}}"
    rf"|(?<![A-Za-z\u0370-\u04ff])[{_LOOKALIKE}][A-Za-z]{{3,}}"
    rf"|(?<![\u0370-\u04ff])[A-Za-z]{{3,}}[{_LOOKALIKE}](?![A-Za-z\u0370-\u04ff]))"
)


def without_control(text: str) -> str:
    """Take out the characters that `control_characters` finds, and the rest of commands to a terminal."""
    return _CONTROL.sub("", _COLOUR.sub("", text))


def without_invisible(text: str) -> str:
    """Take out the marks that `invisible_characters` finds, and write Latin words in Latin letters."""
    pieces, end = [], 0
    for flag in _TAGGED_FLAG.finditer(text):
        pieces += [_INVISIBLE.sub("", text[end : flag.start()]), flag[0]]
        end = flag.end()
    plain = "".join([*pieces, _INVISIBLE.sub("", text[end:])])
    while (latin := _MIXED_WORD.sub(lambda word: word[0].translate(_LATIN), plain)) != plain:
        plain = latin
    return plain


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
    found = _MIXED_WORD.search(text) if _CYRILLIC.search(foreign) and _MIXED_LETTERS.search(text) else None
    return None if found is None else f"Cyrillic letters in a Latin word: {found[0]}"


def _replacement(row: RowView) -> str | None:
    return shorten(row.text, row.text.find("\ufffd")) if "\ufffd" in row.foreign else None


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
