"""Write HTML in which text can never become markup: elements are made here alone, and every text is escaped here."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from finetune_exe.report.boxes import JOINERS

TAGS = frozenset({
    "bdi", "br", "caption", "code", "dd", "desc", "details", "div", "dl", "dt", "figcaption", "figure", "footer", "g",
    "h1", "h2", "h3", "header", "li", "line", "main", "mark", "ol", "p", "pre", "rect", "section", "span", "strong",
    "summary", "svg", "table", "tbody", "td", "text", "th", "thead", "title", "tr", "ul",
})  # fmt: skip
"""Elements a report is made of; none of them runs or loads anything."""
ATTRIBUTES = frozenset({
    "aria-hidden", "aria-label", "aria-labelledby", "class", "height", "id", "role", "scope", "tabindex", "text-anchor",
    "viewBox", "width", "x", "x1", "x2", "y", "y1", "y2",
})  # fmt: skip
"""Attributes they may have; none of them holds an address, a style or a script."""
_VOID = frozenset({"br"})
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of characters that control, reorder or hide text, or cannot be written as UTF-8."""


@dataclass(frozen=True, slots=True)
class Markup:
    """Finished HTML; only `element` makes it."""

    source: str


Child = Markup | str
"""Part of an element; a str is text and is escaped."""


def escape(text: str) -> str:
    """Write any text so that HTML shows it and does nothing else, in content as in attributes.

    Control, direction and other invisible characters are shown as their codes; line ends, tabs and joiners, which
    words of some scripts and signs made of several are written with, are kept.
    """
    return html.escape("".join(map(_seen, text)), quote=True)


def _seen(character: str) -> str:
    if character in "\n\t" or character in JOINERS or unicodedata.category(character) not in _UNSEEN:
        return character
    return f"<U+{ord(character):04X}>"


def element(tag: str, *children: Child, **attributes: str | int) -> Markup:
    """Make an element.

    Args:
        tag: One of `TAGS`.
        children: Its content; text is escaped.
        attributes: By name; `class_` stands for class, an underscore inside for a hyphen.
    """
    assert tag in TAGS, tag
    written = []
    for key, value in attributes.items():
        name = key.rstrip("_").replace("_", "-")
        assert name in ATTRIBUTES, name
        written.append(f' {name}="{escape(str(value))}"')
    start = f"<{tag}{''.join(written)}>"
    return Markup(start if tag in _VOID else f"{start}{join(children).source}</{tag}>")


def join(children: Iterable[Child]) -> Markup:
    """Put parts one after the other."""
    return Markup("".join(child.source if isinstance(child, Markup) else escape(child) for child in children))


def data_text(text: str, characters: int) -> Markup:
    """Show text out of the data: cut to so many characters, and set apart so that its direction stays inside it."""
    shown = text if len(text) <= characters else text[: max(0, characters - 1)] + "\u2026"
    return element("bdi", shown)
