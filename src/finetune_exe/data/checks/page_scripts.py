"""Styles and scripts of a web page, left in the text that was taken from it."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.programs import without_code
from finetune_exe.data.checks.row import RowView

_PROPERTY = (
    r"(?:margin|padding|font|color|background|border|display|width|height|position|float|clear|text|line|list|max|min"
    r"|top|left|right|bottom|overflow|opacity|visibility|z-index|vertical|white|word|letter|box|flex|grid|align|justify"
    r"|cursor|content|transition|transform|animation)(?:-[a-z]+){0,3}"
)
_RULE = re.compile(
    rf"(?<=[\w\])*]) {{0,2}}\{{\s*{_PROPERTY} ?: ?[^{{}}]{{1,600}}\}}"
    r"|(?<=@font-face) {0,2}\{|@media [^{}\n]{3,80}\{"
)
"""A rule of a style sheet, from its brace on: what it sets."""
_SELECTED = re.compile(rf"[\w.#:,>+~*\[\]=\"()@ -]{{0,80}}(?:{_RULE.pattern})")
"""The same with what it is for."""
_SCRIPT = re.compile(
    r"window\.dataLayer|dataLayer\.push\(|gtag\([\"'](?:js|config|event)|_gaq\.push\(|googletag\.(?:cmd|pubads|display)"
    r"|function\(d, ?s, ?id\)"
    r"|\(adsbygoogle ?=|fbq\([\"']|_wpemojiSettings|\bvar \w+ ?= ?document\.(?:getElement|createElement|querySelector)"
    r"|(?:jQuery|\$)\((?:document\)\.ready\(|function ?\()|document\.write\("
    r"|function ?\w*\((?:\w+(?:, ?\w+)*)?\) ?\{[^\n]{0,200}?(?:document|window)\.|//\s*<!\[CDATA\["
)
"""What pages run, and nobody would say."""
_SCRIPT_LINE = re.compile(rf"(?:{_SCRIPT.pattern})(?:[^\n]*[;}}])?\)*;?")
"""The same up to where the last statement of its line ends."""
_CODE_LINE = re.compile(r"^.*[{};].*$|^\s*(?://|/\*|\*|\w+ ?=|[\w.]+\(.*\)).*$", re.MULTILINE)
_ABOUT = re.compile(
    r"\b(?:css|html5?|javascript|js|typescript|node|react|vue|angular|jquery|php|json|codes?|coding|program\w*|scripts?|style"
    r"|styles?(?:heet)?s?|functions?|snippets?|selectors?|class(?:es)?|web ?(?:site|page|app|dev\w*|design\w*)?s?"
    r"|div|elements?|buttons?|pages?|responsive|animat\w+|tags?|front-?end|browser|wordpress|themes?|plugin"
    r"|analytics|tracking|template|dom|api|scrap\w+|xpath|bootstrap|tailwind|sass|scss|less|widgets?"
    r"|titles?|headers?|footers?|headings?|colou?rs?|fonts?|margins?|padding|cent(?:er|re)\w*|align\w*|layouts?|background)\b",
    re.IGNORECASE,
)
_SAYS_SO = re.compile(
    r"\b(?:css|html5?|javascript|jquery|code|script|style ?sheet|selector|snippet|function|browser|element)s?\b",
    re.IGNORECASE,
)
"""Words with which a text speaks of code itself, beside the code."""
_LONE_BRACE = re.compile(r" \}(?= )|^\} ", re.MULTILINE)
"""The end of what a rule stood in."""
_BEFORE = 20
"""Characters before the place that are quoted with it."""
_MIN_PROSE, _PROSE_SHARE = 60, 0.3
"""Characters of prose beside the code, and their share: without them the text is a program."""


def _find(row: RowView) -> str | None:
    signs = row.signs
    if row.layout == "classification" or "{" not in signs or not ("}" in signs or "(" in signs):
        return None
    for answer in row.answers:
        plain = without_code(answer)
        found = (_SCRIPT.search(plain) or _RULE.search(plain)) if "{" in plain else None
        if found is not None and _is_left_over(plain, row):
            return shorten(plain, max(0, found.start() - _BEFORE))
    return None


def _is_left_over(plain: str, row: RowView) -> bool:
    """Whether a text that has such code in it is prose that speaks of something else."""
    asked_for = any(message.role in ("user", "system") and _ABOUT.search(message.content) for message in row.messages)
    if asked_for:
        return False
    scriptless = _SCRIPT_LINE.sub("", plain)
    prose = _CODE_LINE.sub("", _LONE_BRACE.sub("", _SELECTED.sub("", scriptless)))
    said = len("".join(prose.split()))
    if said < _MIN_PROSE or said < _PROSE_SHARE * len(plain):
        return False
    return _SAYS_SO.search(_CODE_LINE.sub("", _LONE_BRACE.sub("", _RULE.sub("", scriptless)))) is None


_SAID = (
    "The harbour was dug by hand in the winter of the great frost, and it lets the boats rest when the sea is rough. "
    "It is one of the few that a ship can enter at any time of the day, so it is of use to all who live by the sea."
)

CHECKS = (
    RowCheck(
        code="page_script",
        severity="warning",
        message="rules of a style sheet or the script of a web page stand among the text",
        fix="take the text out of the page with an HTML parser, without what is in <style> and <script>",
        find=_find,
        usual=0.3,
        example=asked("Who dug the harbour?", f".post-7 .title {{ margin:0 0 4px; color:#333; }}\n{_SAID}"),
        counterexample=asked("How do I make the title grey?", f".title {{ color: #333; }}\n{_SAID}"),
    ),
)
