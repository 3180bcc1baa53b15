"""Rows token by token, with what is learned marked: by colour on a terminal, by brackets elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEARNED_OPEN, LEARNED_CLOSE, BETWEEN = "[", "]", "|"
_GREEN, _DIM, _PLAIN = "\x1b[30;42m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownToken:
    """One token."""

    id: int
    text: str
    learned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRow:
    """One training sequence."""

    source: str
    """Where its row stands."""
    tokens: tuple[ShownToken, ...]


def render_tokens(rows: Sequence[ShownRow], *, colour: bool) -> str:
    """Write rows token by token.

    Nothing in the text can steer a terminal: control characters are written as escapes.

    Args:
        rows: What to show.
        colour: Mark learned tokens by colour; otherwise they stand in brackets, and others between bars.
    """
    how = "on green" if colour else f"in {LEARNED_OPEN} {LEARNED_CLOSE}"
    lines = [f"Tokens {how} are learned; the others are given."]
    for number, row in enumerate(rows, start=1):
        learned = sum(token.learned for token in row.tokens)
        lines += ["", f"row {number}, {visible(row.source)}: {len(row.tokens)} tokens, {learned} learned"]
        lines.append("".join(_token(token, colour=colour) for token in row.tokens).rstrip("\n"))
    return "\n".join(lines)


def _token(token: ShownToken, *, colour: bool) -> str:
    text = token_text(token)
    ends = token.text.count("\n") * "\n"
    if colour:
        return f"{_GREEN if token.learned else ''}{text}{_PLAIN if token.learned else ''}{_DIM}{BETWEEN}{_PLAIN}{ends}"
    return (f"{LEARNED_OPEN}{text}{LEARNED_CLOSE}" if token.learned else f"{text}{BETWEEN}") + ends


def token_text(token: ShownToken) -> str:
    """Write a token's text, or its number where it is no whole text of its own."""
    return f"<{token.id}>" if "\ufffd" in token.text or not token.text else visible(token.text)


def visible(text: str) -> str:
    """Write control and other invisible characters as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
