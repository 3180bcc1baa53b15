"""Tokens, and the characters of a text that each stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from tokenizers import Encoding

Offsets = list[tuple[int, int]]
"""Characters [start, end) of each token."""


class Placed(Protocol):
    """Tokens that know which characters they stand for."""

    @property
    def ids(self) -> list[int]:
        """The token ids."""
        ...

    @property
    def offsets(self) -> Offsets:
        """The characters of each."""
        ...

    def token_at(self, character: int) -> int:
        """Give the first token that ends behind a character; the number of tokens where none does."""
        ...


class Tokens(NamedTuple):
    """Tokens with all their offsets at hand."""

    ids: list[int]
    offsets: Offsets

    def token_at(self, character: int) -> int:
        """Give the first token that ends behind a character."""
        return _first_behind(self.offsets, character)


class WholeTokens:
    """Tokens as the tokenizer gave them for a text; offsets are asked for one at a time, which is fast."""

    __slots__ = ("_encoding", "ids")

    def __init__(self, encoding: Encoding) -> None:
        self.ids: list[int] = encoding.ids
        self._encoding = encoding

    @property
    def offsets(self) -> Offsets:
        """The characters of each token."""
        offsets: Offsets = self._encoding.offsets
        return offsets

    def token_at(self, character: int) -> int:
        """Give the first token that ends behind a character."""
        index: int | None = self._encoding.char_to_token(character)
        return _first_behind(self.offsets, character) if index is None else index


class JoinedTokens:
    """Tokens of the beginning of a text followed by those of its rest, each tokenised by itself.

    Args:
        beginning: Tokens of the first `shift` characters.
        rest: Tokens of what follows.
        shift: Where the rest begins.
    """

    __slots__ = ("_beginning", "_rest", "_shift", "ids")

    def __init__(self, beginning: Placed, rest: Placed, *, shift: int) -> None:
        self.ids = beginning.ids + rest.ids
        self._beginning, self._rest, self._shift = beginning, rest, shift

    @property
    def offsets(self) -> Offsets:
        """The characters of each token."""
        return self._beginning.offsets + [(start + self._shift, end + self._shift) for start, end in self._rest.offsets]

    def token_at(self, character: int) -> int:
        """Give the first token that ends behind a character."""
        if character < self._shift:
            return self._beginning.token_at(character)
        return len(self._beginning.ids) + self._rest.token_at(character - self._shift)


def _first_behind(offsets: Sequence[tuple[int, int]], character: int) -> int:
    return next((index for index, (_, end) in enumerate(offsets) if end > character), len(offsets))
