"""Words in which limits of time and money are said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache

from finetune_exe.knowledge.rows import read_rows

_FILE = "limit_words.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitWords:
    """The words of one language, each a regular expression; the file says what each list is for."""

    language: str
    training: tuple[str, ...]
    speaks: tuple[str, ...]
    filler: tuple[str, ...]
    budget: tuple[str, ...]
    following: tuple[str, ...]
    most: tuple[str, ...]
    weak: tuple[str, ...]
    after: tuple[str, ...]
    hours: tuple[str, ...]
    minutes: tuple[str, ...]
    days: tuple[str, ...]
    overnight: tuple[str, ...]
    weekend: tuple[str, ...]
    also: tuple[str, ...]
    further: tuple[str, ...]
    numbers: dict[str, float]
    source: str
    date: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Currency:
    """Money, and what it is worth."""

    name: str
    words: tuple[str, ...]
    """Regular expressions: signs and names, in several languages."""
    usd: float
    """US dollars that one of it is worth."""
    source: str
    date: date


@cache
def limit_words() -> tuple[LimitWords, ...]:
    """Read the words of all languages, English first."""
    return read_rows(_FILE, key="limits", kind=LimitWords)


@cache
def currencies() -> tuple[Currency, ...]:
    """Read all currencies."""
    return read_rows(_FILE, key="currency", kind=Currency)
