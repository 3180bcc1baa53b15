"""Where special tokens stand in a text, and where they cut it for good.

A tokenizer takes special tokens out of a text first and tokenises what lies between them piece by piece. So the
tokens of a text up to a special token do not depend on what follows it: it is a *hard boundary*. This saves
tokenising a prompt again when the whole conversation has been tokenised, but only for tokens that

- swallow no white space behind them (`rstrip`), need no word boundary (`single_word`), and are looked for in the text
  as it is rather than in its normalised form;
- overlap no other added token, nor themselves, so that the tokenizer finds each of them wherever it stands.

`SpecialTexts.is_hard` decides this for each token from the tokenizer's own settings; where it says no, prompts are
tokenised by themselves.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PROBES = 3
"""Prompts with one and the same ending that are tokenised by themselves too, to see that the shortcut holds."""
_CACHED_TAILS = 10_000
_CACHED_TAIL_CHARACTERS = 200
"""Endings of prompts that are remembered, 2 MB at most; longer ones are nobody's but the row's own."""


class Found(NamedTuple):
    """A special token in a text, and where it ends."""

    token: str
    end: int


class SpecialTexts:
    """Knows a tokenizer's special tokens as text.

    Args:
        tokenizer: The tokenizer.
        special: Text of each special token by its id.
    """

    def __init__(self, tokenizer: Tokenizer, special: dict[int, str]) -> None:
        self._tokenizer = tokenizer
        self._ids = {text: number for number, text in special.items() if text}
        self._firsts = tuple(sorted({text[0] for text in self._ids}))
        self._lasts = tuple(sorted({text[-1] for text in self._ids}))
        self._lengths = sorted({len(text) for text in self._ids}, reverse=True)
        longest_first = sorted(self._ids, key=lambda text: (-len(text), text))
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._hard: dict[str, bool] = {}
        self._tails: dict[tuple[str, str], list[int]] = {}
        self._probes: dict[tuple[str, str], int] = {}

    def find(self, text: str) -> str | None:
        """Give the first special token written in a text, if there is one."""
        for first in self._firsts:
            if first in text:
                match = self._pattern.search(text)
                return match.group() if match else None
        return None

    def last(self, text: str) -> Found | None:
        """Give the last special token of a text, the longest where several end there."""
        end = len(text)
        while self._lasts:
            end = max([text.rfind(last, 0, end) for last in self._lasts]) + 1
            if not end:
                break
            for length in self._lengths:
                if length <= end and text[end - length : end] in self._ids:
                    return Found(text[end - length : end], end)
            end -= 1
        return None

    def is_hard(self, token: str) -> bool:
        """Say whether the tokens before and at this special token are the same whatever follows it."""
        known = self._hard.get(token)
        if known is None:
            known = self._hard[token] = self._decide(token)
        return known

    def count_prefix(self, text: str, ids: list[int]) -> int | None:
        """Count the tokens of a text that is the beginning of a longer one, without tokenising it.

        Args:
            text: The beginning.
            ids: Tokens of the longer text.

        Returns:
            How many there are, or None where the text should be tokenised: it has no hard boundary, its tokens by
            themselves are not the beginning of `ids`, or it is one of the first few of its ending.
        """
        found = self.last(text)
        if found is None or not self.is_hard(found.token):
            return None
        counted = self._count(found, text, ids)
        return None if counted is None or self._wants_probe(found.token, text[found.end :]) else counted

    def _count(self, found: Found, text: str, ids: list[int]) -> int | None:
        tail = self._tail(found.token, text[found.end :])
        number = self._ids[found.token]
        position = -1
        try:
            for _ in range(text.count(found.token)):
                position = ids.index(number, position + 1)
        except ValueError:
            return None
        end = position + 1 + len(tail)
        return end if ids[position + 1 : end] == tail else None

    def _wants_probe(self, token: str, tail: str) -> bool:
        """Say whether a text with this ending should be tokenised by itself too: the first few are."""
        ending = (token, tail)
        done = self._probes.get(ending, 0)
        if done >= PROBES:
            return False
        if len(self._probes) < _CACHED_TAILS:
            self._probes[ending] = done + 1
        return True

    def _tail(self, token: str, tail: str) -> list[int]:
        """Give the tokens of what stands behind a special token."""
        known = self._tails.get((token, tail))
        if known is None:
            known = self._tokenizer.encode(token + tail, add_special_tokens=False).ids[1:]
            if len(self._tails) < _CACHED_TAILS and len(tail) < _CACHED_TAIL_CHARACTERS:
                self._tails[token, tail] = known
        return known

    def _decide(self, token: str) -> bool:
        added = self._tokenizer.get_added_tokens_decoder()
        own = added[self._ids[token]]
        if own.rstrip or own.single_word or (own.normalized and self._tokenizer.normalizer is not None):
            return False
        if _overlap(token, token):
            return False
        return not any(_overlap(token, other.content) for other in added.values() if other.content != token)


def _overlap(token: str, other: str) -> bool:
    """Say whether two tokens could share characters of a text, other than by being the same."""
    if not other:
        return False
    if token != other and (token in other or other in token):
        return True
    return any(
        token.endswith(other[:size]) or other.endswith(token[:size]) for size in range(1, min(len(token), len(other)))
    )
