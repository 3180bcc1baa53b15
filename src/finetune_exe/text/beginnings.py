"""Beginnings that many texts share, such as a system prompt, tokenised once.

A beginning ends before a special token that is a hard boundary (see `boundaries`). What follows is tokenised with that
token in front, so that nothing in it depends on what stood before. Which beginnings there are is learned from texts
that follow each other; each is held against the tokens of both texts, whole, before it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from finetune_exe.text.placed import JoinedTokens, Placed, Tokens, WholeTokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from finetune_exe.text.boundaries import SpecialTexts

FEWEST_CHARACTERS = 32
"""A shorter beginning is not worth the second look."""
MOST_KNOWN = 8
"""Beginnings kept; the one that was not met for longest gives way."""


class _Beginning(NamedTuple):
    """A text that others begin with, and its tokens."""

    text: str
    tokens: Tokens


class Beginnings:
    """Tokenises texts, what they begin with alike only once.

    Args:
        tokenizer: The tokenizer.
        specials: Its special tokens.
    """

    def __init__(self, tokenizer: Tokenizer, specials: SpecialTexts) -> None:
        self._tokenizer = tokenizer
        self._specials = specials
        self._known: dict[str, Tokens | None] = {}
        """Tokens of each beginning, None where it does not hold; the last met stands last."""
        self._before = ""

    def encode_batch(self, texts: Sequence[str]) -> list[Placed]:
        """Give the tokens that each text has as a whole."""
        found = [self._find(text) for text in texts]
        rests = [text[len(known.text) :] if known else text for text, known in zip(texts, found, strict=True)]
        encodings = map(WholeTokens, self._tokenizer.encode_batch(rests, add_special_tokens=False))
        return [
            JoinedTokens(known.tokens, rest, shift=len(known.text)) if known else rest
            for known, rest in zip(found, encodings, strict=True)
        ]

    def _find(self, text: str) -> _Beginning | None:
        """Give the longest known beginning of a text; where none is known, learn what the text before begins with."""
        begins = max((known for known in self._known if text.startswith(known)), key=len, default=None)
        if begins is None:
            begins = self._learn(text)
        self._before = text
        if begins is None:
            return None
        tokens = self._known[begins] = self._known.pop(begins)
        return None if tokens is None else _Beginning(begins, tokens)

    def _learn(self, text: str) -> str | None:
        alike = text[: _common(text, self._before)]
        last = self._specials.last(alike)
        if last is None or not self._specials.is_hard(last.token):
            return None
        begins = alike[: last.end - len(last.token)]
        if len(begins) < FEWEST_CHARACTERS:
            return None
        if len(self._known) == MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[begins] = self._tokens(begins, last.token, (text, self._before))
        return begins

    def _tokens(self, begins: str, token: str, texts: Sequence[str]) -> Tokens | None:
        """Tokenise a beginning with the special token behind it; None where the texts do not bear it out."""
        ids, offsets = self._encode(begins + token)
        tokens = Tokens(ids[:-1], offsets[:-1])
        holds = all(self._encode(text).ids == tokens.ids + self._encode(text[len(begins) :]).ids for text in texts)
        return tokens if holds else None

    def _encode(self, text: str) -> Tokens:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return Tokens(encoding.ids, encoding.offsets)


def _common(one: str, other: str) -> int:
    """Count the characters that two texts begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
