"""Escapes that stand in prose where their characters should be."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.programs import QUOTED_CODE, is_program
from finetune_exe.data.checks.row import RowView

_LINE_ENDS = re.compile(r"\\n(?=\\n|\\t|[A-Z0-9 *#\"'-]|\Z)")
_MIN_LINE_ENDS = 2
"""One may be the name of a folder: C:\\new."""
_UNICODE = re.compile(
    r"\\u(?:00(?:2[0-9a-fA-F]|3[c-eC-E]|[a-fA-F][0-9a-fA-F])|20[0-3][0-9a-fA-F]|0[1-9a-f][0-9a-fA-F]{2}|[3-9][0-9a-fA-F]{3}|d8[0-9a-f]{2}\\ud)"
)
_BYTES = re.compile(r"\\x[c-eC-E][0-9a-fA-F]\\x[89abAB][0-9a-fA-F]")
_QUOTES = re.compile(r"[a-z]\\'[a-z]|\\\"\w[^\"\\\n]{0,200}\\\"")
_MIN_QUOTES = 2
"""One is a name in quotes, as in a list of arguments."""
_WHOLE = re.compile(r"\s*\\\"[^\"]{20,}\\\"\s*\Z")
"""A text between quotes that are escaped."""
_CARRIAGE = re.compile(r"(?<!:)\\r\\n(?=\\|[A-Z \n]|\Z)")
"""An end of a line as Windows has it; no folder's name begins so."""
_MAIL = re.compile(r"=(?:C[2-9A-F]|D[0-9A-F]|E[0-9A-F]=[89AB][0-9A-F])=[89AB][0-9A-F]")
"""UTF-8 as mails write it (quoted-printable)."""
_MAIL_SIGNS = re.compile("=[CDE][0-9A-F]=[89AB]")
_SHIFTED = re.compile(r"\+([A-Za-z0-9/]{3,}={0,2})-")
"""Letters as UTF-7 writes them."""
_SHIFT_SIGNS = re.compile(r"\+A[A-Z0-9/]|\+I[A-Z]|\+[A-Z]{2}")
_SPACES = re.compile(r"(?<![\w/.=&?%:@+-])[A-Za-z]+(?:%20[\w'(),.-]+){3,}(?![\w/])")
"""Words with the spaces between them written as in addresses, and no address."""
_LITERAL = re.compile(r"\s*b(?:'[^'\n]{20,}'|\"[^\"\n]{20,}\")\s*\Z")
_ABOUT = re.compile(
    r"\b(?:codes?|coding|program\w*|python|java\w*|c\+\+|regex\w*|regular|escap\w*|strings?|json|latex|tex|functions?|scripts?"
    r"|print\w*|paths?|windows|unicode|bytes?|encod\w*|decod\w*|utf\w*|ascii|sql|shell|bash|command|file\w*|newline|csv|parse\w*)\b",
    re.IGNORECASE,
)
_WITH_BRACES = re.compile(r"[{};]\s*$|\w\(\)|\\begin|\$\\|\\\(|\\\[", re.MULTILINE)
"""Programs and formulas are written with backslashes."""


def _find(row: RowView) -> str | None:
    signs = row.signs
    if "\\" not in signs and "=" not in signs and "+" not in signs and "%20" not in signs:
        return None
    if row.layout == "classification":
        return None
    for answer in row.answers:
        found = _escape(answer, row.signs)
        if found is None:
            continue
        if row.layout != "text" and (_ABOUT.search(row.prompt) is not None or is_program(answer)):
            continue
        if _WITH_BRACES.search(answer) is None:
            return shorten(answer, found.start())
    return None


def _escape(answer: str, signs: str) -> re.Match[str] | None:
    if "\\" in signs and "\\" in answer:
        plain = QUOTED_CODE.sub(lambda code: " " * len(code[0]), answer) if "`" in answer else answer
        ends = list(_LINE_ENDS.finditer(plain))
        if len(ends) >= _MIN_LINE_ENDS and len(ends) > plain.count("\n"):
            return ends[0]
        if (single := _UNICODE.search(plain) or _BYTES.search(plain)) is not None:
            return single
        if (whole := _WHOLE.match(plain) or _CARRIAGE.search(plain)) is not None:
            return whole
        quotes = list(_QUOTES.finditer(plain))
        if len(quotes) >= _MIN_QUOTES:
            return quotes[0]
    if "%20" in signs and (spaces := _SPACES.search(answer)) is not None:
        return spaces
    if "=" in signs and _MAIL_SIGNS.search(signs) is not None and (mailed := _MAIL.search(answer)) is not None:
        return mailed
    if "+" in signs and _SHIFT_SIGNS.search(signs) is not None and (shifted := _shifted(answer)) is not None:
        return shifted
    return _LITERAL.match(answer) if answer.lstrip()[:2] in ("b'", 'b"') else None


def _shifted(answer: str) -> re.Match[str] | None:
    """Find UTF-7: letters between a plus and a minus that decode to ones beyond ASCII."""
    for found in _SHIFTED.finditer(answer):
        try:
            said = found[0].encode("ascii").decode("utf-7")
        except (UnicodeDecodeError, UnicodeEncodeError):
            continue
        if said and len(said) * 2 <= len(found[1]) and all(not one.isascii() and one.isprintable() for one in said):
            return found
    return None


CHECKS = (
    RowCheck(
        code="literal_escapes",
        severity="warning",
        message="escapes are written out where their characters should be, as \\n or \\u00e9 in prose",
        fix="decode the text once more where it was loaded: JSON, a string of a program, quoted-printable or UTF-7",
        find=_find,
        usual=0.3,
        example=asked("Name the steps.", "First rinse it.\\nThen dry it.\\nThen sand it."),
        counterexample=asked("Print the steps in Python.", "Use print('First.\\nThen.\\nLast.')"),
    ),
)
