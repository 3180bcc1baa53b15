"""Tell whether the code that an answer ends with breaks off, by what is opened in it and never closed."""

from __future__ import annotations

import ast
import re
import warnings

from finetune_exe.data.checks.programs import begins_as_program, read_program, seems_code

_QUOTED = re.compile(
    r"\"\"\".{0,2000}?\"\"\"|'''.{0,2000}?'''|\"(?:\\.|[^\"\\\n])*\"|(?<!\w)'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`"
    r"|/\*.{0,2000}?\*/|<!--.{0,500}?-->|(?:^|(?<=[\s;{}(),]))//[^\n]*|^[ \t]*#[^\n]*|(?<=\s)(?:#|--)[ \t!][^\n]*",
    re.DOTALL | re.MULTILINE,
)
"""Texts and remarks, in which brackets mean nothing. How far an end is looked for is bounded: there may be none."""
_OVER_LINES = re.compile(r"\"(?:\\.|[^\"\\])*\"|(?<!\w)'(?:\\.|[^'\\])*'", re.DOTALL)
"""Texts as some languages have them, over several lines."""
_BRACKET = re.compile(r"(?<!\\)(?:[)\[\]{}]|(?<!:)(?<!:-)\()")
"""A bracket, and no sad face."""
_CLOSES = {")": "(", "]": "[", "}": "{"}
_TAG = re.compile(r"<(/?)([a-z][a-z0-9]*)\b[^<>]*?(/?)>", re.IGNORECASE)
_CLOSED_ELEMENTS = frozenset({
    "html", "head", "body", "title", "style", "script", "div", "span", "a", "b", "i", "em", "strong", "h1", "h2", "h3",
    "h4", "table", "ul", "ol", "dl", "form", "button", "select", "textarea", "label", "section", "article", "nav",
    "header", "footer", "main", "svg", "canvas", "video", "audio", "iframe", "pre", "code", "blockquote",
})  # fmt: skip
"""Elements of HTML that pages close."""
_GOES_ON = re.compile(r"(?:[,=]|&&|\|\||\b(?:SELECT|FROM|WHERE|AND|OR|ON|JOIN|BY|SET|VALUES|INTO|LIKE))\Z")
"""What stands before something in every language."""
_SQL = re.compile(r"(?:--[^\n]*\n)*(?:SELECT|WITH|CREATE|INSERT INTO|UPDATE|DELETE FROM|ALTER)\s")
_PYTHON = ("python", "py", "python3")
_MAX_CHARACTERS = 20_000
"""Longer ones are not looked at, as in `programs`."""


def code_breaks_off(text: str) -> bool:
    """Say whether a text without white space at its end ends with code that is not whole.

    Of 26,895 answers in public files seven are so, and none of them is whole; of the 163 blocks of code in them, cut
    anywhere, 54 % are found where they stand bare and 63 % in a closed fence. Of 12,771 whole files of programs and
    pages, put in a fence, 35 are accused, 26 of them scripts of Vim, whose remarks begin with a quotation mark. A
    program cut between two statements is whole to every rule.
    """
    fenced, language, code = text.endswith("```"), "", text
    if fenced:
        language, _, code = text.removesuffix("```").rpartition("```")[2].rstrip().partition("\n")
    elif "\n" not in text or "```" in text:
        return False
    if not 0 < len(code) <= _MAX_CHARACTERS or not (fenced or (_seems_open(code) and _is_code(code))):
        return False
    language = language.strip().lower()
    if language in _PYTHON or (not language and begins_as_program(code) and read_program(code) is not None):
        return _is_cut_python(code)
    bare = _QUOTED.sub(" ", code)
    if _GOES_ON.search(code) is not None and _GOES_ON.search(bare) is not None:
        return True
    if code[0] == "<":
        return _has_open_element(bare)
    if "#if" not in code and _is_open(bare) and _is_open(_OVER_LINES.sub(" ", code)):
        return True
    return not language and begins_as_program(code) and _is_cut_python(code)


def _seems_open(text: str) -> bool:
    """Pass over texts in which nothing is open at first sight, as in most."""
    return (
        text[-1] in ":=,&|"
        or text.count("(") > text.count(")")
        or text.count("{") > text.count("}")
        or text.count("[") > text.count("]")
        or text.count('"') % 2 == 1
        or text[-1].isupper()
        or (text[0] == "<" and "</" in text)
    )


def _is_code(text: str) -> bool:
    is_page = text[0] == "<" and "</" in text
    return is_page or seems_code(text) or begins_as_program(text) or _SQL.match(text) is not None


def _is_open(code: str) -> bool:
    """Whether brackets are open at the end, where all that are closed were opened."""
    opened: list[str] = []
    for sign in _BRACKET.findall(code):
        if sign not in _CLOSES:
            opened.append(sign)
        elif not opened or opened.pop() != _CLOSES[sign]:
            return False
    return bool(opened)


def _has_open_element(page: str) -> bool:
    """Whether elements of HTML are open at the end, where all that are closed were opened."""
    opened: list[str] = []
    for closing, name, closed in _TAG.findall(page):
        element = name.lower()
        if closed or element not in _CLOSED_ELEMENTS:
            continue
        if not closing:
            opened.append(element)
        elif not opened or opened.pop() != element:
            return False
    return bool(opened)


def _is_cut_python(code: str) -> bool:
    """Whether Python reads all of a program but for its end, where something is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            ast.parse(code)
        except SyntaxError as error:
            last = code.count("\n") + 1
            line, place = error.lineno or 0, error.offset or 0
            missing = place > len(code) - code.rfind("\n") - 1 or error.msg.startswith(
                ("unterminated", "expected an ind")
            )
            return line > last or (line == last and missing) or error.msg.endswith("was never closed")
        except (ValueError, RecursionError, MemoryError):  # the last two: nested too deeply
            pass
    return False
