"""Markup of web pages, left in text that is not about markup."""

from __future__ import annotations

import html
import html.entities
import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.programs import QUOTED_CODE, is_program, without_code
from finetune_exe.data.checks.row import RowView

_TAG = re.compile(
    r"</?(?:script|style|div|span|br|hr|table|tbody|thead|t[rdh]|[uo]l|li|img|iframe|font|center|h[1-6]|p|a|b|i|u"
    r"|em|strong"
    r"|blockquote|section|article|nav|footer|header|button|form|figure|noscript|label|sup"
    r"|sub|ref|cite|o:p|small|video|audio|wbr|strike|big|del|ins|d[ltd]|tfoot)(?:\s*/?|[\s/](?=[^<>]{0,300}[=/\"'])[^<>]{0,300})>",
    re.IGNORECASE,
)
"""A tag, with nothing or with attributes in it: `a<b and b>c` compares."""
_BLOCK = re.compile(
    r"</?(?:div|span|p|br|td|tr|li|ul|font|script)(?:\s*/?|\s(?=[^<>]{0,300}=)[^<>]{0,300})>", re.IGNORECASE
)
"""A tag that a question has only where it was copied with its page."""
_SECTION = re.compile(
    r"<!--(?:[^<>]{0,200}|\[if [^\]]{1,40}\]>.{0,400}?)-->"
    r"|<!\[CDATA\[|</?(?:code|pre)>|<(?:a href|img src|img alt|div class|div id|span class|span style)=",
    re.IGNORECASE | re.DOTALL,
)
_FORMATTING = re.compile(
    r"</?(?:b|i|u|em|strong|sup|sub|a|label|p|header|form|section|article|button|figure|ref|cite|small|big|del|ins)>",
    re.IGNORECASE,
)
"""Tags that are also read as names in angle brackets: they count only when they are closed again."""
_NAMES = "|".join(
    ["amp", "lt", "gt", "quot", "apos"]
    + [name for name, code in html.entities.name2codepoint.items() if 0xA0 <= code < 0x370 or 0x2000 <= code < 0x2190]
)
"""Letters with accents, dashes, quotation marks and signs; mathematics has names that variables have too."""
_ENTITY = re.compile(rf"&(?!not;|image;|real;)(?:{_NAMES}|#\d{{2,5}}|#x[0-9a-fA-F]{{2,5}});")
_OF_CODE = re.compile("&(?:amp|[lg]t|quot|apos|#0?3[49]|#[xX]2[27]);")
"""Entities for signs that code has; the others stand for marks and letters of prose."""
_BOARD = re.compile(
    r"\[(b|i|u|s|url|img|quote|color|colour|size|code|list|center|left|right|font|spoiler|youtube|email|table|td|tr|sub|sup"
    r"|strike|highlight)(?:=[^\]\n]{1,120}|(?: \w+=[^\]\n]{1,60})+)?\](?=.*?\[/\1\])",
    re.IGNORECASE | re.DOTALL,
)
"""A tag of a bulletin board (BBCode) that is closed again."""
_CODED = re.compile(
    r"```(?:c|cpp|c\+\+|java|javascript|js|ts|python|py|go|rust|bash|sh|sql|csharp|cs|ruby|kotlin|swift|scala|r)\n"
    r"(?:(?!```)[^<>])*?(?:&[lg]t;|&amp;&amp;|-&gt;|&quot;)(?:(?!```)[^<>])*```"
)
"""A program whose signs are written as a web page writes them."""
_ABOUT = re.compile(
    r"\b(?:x?html5?|xml|svg|css|tags?|markup|web ?(?:site|page|app|form|dev)|javascript|typescript|react|vue"
    r"|angular|jquery|php|jsx?"
    r"|django|flask|bootstrap|dom|front-?end|scrap(?:e|er|ing)|beautifulsoup|xpath|asp|jsp|wiki(?:text)?|bbcode"
    r"|rss|latex|phpbb|forum|bulletin"
    r"|ssml|browser|hyperlink|component|email format)\b",
    re.IGNORECASE,
)
_ABOUT_CODE = re.compile(
    r"\b(?:codes?|program\w*|script\w*|snippet|function|class|api|query|template|parse\w*|regex)\b", re.IGNORECASE
)
"""An answer to such a question may have markup too, unless it keeps its code apart."""
_SELF_MADE = re.compile(r"\s*(?:<!DOCTYPE|<html|<\?xml|<svg)", re.IGNORECASE)


def without_entities(text: str) -> str:
    """Write what entities stand for, outside of code; tags stay."""
    pieces, end = [], 0
    for code in QUOTED_CODE.finditer(text):
        pieces += [_plain(text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*pieces, _plain(text[end:])])


def _plain(text: str) -> str:
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)


def _find(row: RowView) -> str | None:
    if "[/" in row.signs and (board := _on_board(row)) is not None:
        return board
    if "<" not in row.signs and "&" not in row.signs:
        return None
    for answer in row.answers:
        if ("<" in answer or "&" in answer) and (found := _residue(answer, row)) is not None:
            return found
    for message in row.messages:
        markup = _asked_in_markup(message.content) if message.role == "user" else None
        if markup is not None and not _is_about_markup(row):
            return shorten(message.content, markup.start())
    return None


def _on_board(row: RowView) -> str | None:
    if _is_about_markup(row):
        return None
    for message in row.messages:
        plain = without_code(message.content)
        found = _BOARD.search(plain) if "[/" in plain else None
        if found is not None:
            return shorten(plain, found.start())
    return None


def _asked_in_markup(question: str) -> re.Match[str] | None:
    return _ENTITY.search(question) or (_BLOCK.search(question) if "</" in question or "/>" in question else None)


def _residue(answer: str, row: RowView) -> str | None:
    """Find markup outside of code; an answer to a question about markup may have it."""
    if _SELF_MADE.match(answer):
        return None
    if "&" in answer and "```" in answer and (coded := _CODED.search(answer)) is not None:
        return shorten(answer, coded.start())
    plain = without_code(answer)
    tag = _tag(plain)
    found = tag or _ENTITY.search(plain)
    of_prose = "```" in answer or (tag is None and _OF_CODE.search(plain) is None)
    if found is None or _is_about_markup(row, of_prose=of_prose) or is_program(answer):
        return None
    return shorten(plain, found.start())


def _tag(plain: str) -> re.Match[str] | None:
    for found in _TAG.finditer(plain):
        bare = _FORMATTING.fullmatch(found[0])
        if bare is None or found[0].startswith("</") or f"</{found[0][1:]}" in plain:
            return found
    return _SECTION.search(plain) if "<" in plain else None


def _is_about_markup(row: RowView, *, of_prose: bool = False) -> bool:
    return _ABOUT.search(row.prompt) is not None or (not of_prose and _ABOUT_CODE.search(row.prompt) is not None)


CHECKS = (
    RowCheck(
        code="html_residue",
        severity="warning",
        message="tags or entities of a web page or a bulletin board stand in the text",
        fix="take the text out of the markup: html.unescape for entities, an HTML parser for tags",
        find=_find,
        usual=0.3,
        example=asked("What is an eye?", '<div class="answer"><span>An organ.</span></div>'),
        counterexample=asked("Convert this text into an HTML list.", "<ul>\n<li>apples</li>\n</ul>"),
    ),
)
