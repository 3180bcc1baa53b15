"""Rows token by token in a page, the learned tokens marked by colour, by a line under them, and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from finetune_exe.report.html.document import section
from finetune_exe.report.html.markup import Markup, data_text, element, join
from finetune_exe.report.token_view import ShownRow, ShownToken, token_text
from finetune_exe.units import format_count

_TOKEN_CHARACTERS = 60
_SOURCE_CHARACTERS = 160
_LINE_ENDS = 3
"""Lines ended behind a token that ends lines; each is shown in it too."""


class TokenDetail(NamedTuple):
    """How much is shown."""

    rows: int
    tokens: int
    """Of each row; of a longer one the beginning and the end."""


def token_section(rows: Sequence[ShownRow], detail: TokenDetail) -> Markup:
    """Show the first rows token by token."""
    parts: list[Markup] = [
        element("p", element("mark", "Underlined on green"), " is learned; everything else is given to the model.")
    ]
    for number, row in enumerate(rows[: detail.rows], start=1):
        learned = sum(token.learned for token in row.tokens)
        heading = element(
            "h3", f"Row {number}, ", data_text(row.source, _SOURCE_CHARACTERS),
            f": {format_count(len(row.tokens))} tokens, {format_count(learned)} learned",
        )  # fmt: skip
        shown = _tokens(row.tokens, detail.tokens)
        label = f"Row {number}, token by token"
        parts += [heading, element("div", shown, class_="tokens", tabindex=0, role="region", aria_label=label)]
    return section("Rows as the model sees them", *parts)


def _tokens(tokens: Sequence[ShownToken], limit: int) -> Markup:
    if len(tokens) <= limit:
        return _runs(tokens)
    head = limit // 2
    cut = f"[{format_count(len(tokens) - limit)} tokens left out]"
    gap = element("strong", cut)
    return join([_runs(tokens[:head]), "\n", gap, "\n", _runs(tokens[len(tokens) - (limit - head) :])])


def _runs(tokens: Sequence[ShownToken]) -> Markup:
    """Mark each run of learned tokens as one, so that it is said once where it is read aloud."""
    parts = []
    for learned, run in groupby(tokens, key=lambda token: token.learned):
        inside = join([_token(token) for token in run])
        if learned:
            start, end = (element("span", words, class_="unseen") for words in ("[learned: ", " :learned]"))
            parts.append(element("mark", start, inside, end))
        else:
            parts.append(inside)
    return join(parts)


def _token(token: ShownToken) -> Markup:
    cut = replace(token, text=token.text[: _TOKEN_CHARACTERS + 1])
    shown = element("span", data_text(token_text(cut), _TOKEN_CHARACTERS))
    return join([shown, min(_LINE_ENDS, cut.text.count("\n")) * "\n"])
