"""Guess a failure from what people say who have it, by the words that a description shares with them."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from finetune_exe.diagnosis.table import causes

_NEAREST = 10
_SHARPER = 1.5
_ENDING = re.compile(r"(ing|ed|es|s|ly)$")
_WORD = re.compile(r"[a-z][a-z_0-9]*|[\u4e00-\u9fff]")
_LONG_ENOUGH = 4
_LEAST_SHARED = 2
_SAYING_LITTLE = frozenset(
    re.findall(
        r"\S+",
        """a an and any are as at be been but by can could do does for from get had has have how i if in is it its just
        like me my no not of on one or our so some that the then there these they this to up was we were what when which
        while why will with would you your \u7684 \u4e86 \u662f \u6211 \u5728 \u6709 \u5c31 \u90fd \u548c
        \u8fd9 \u90a3""",
    )
)
"""Words too common to say what a description is about, in English and in Chinese."""


class Likeness(NamedTuple):
    """How much a description sounds like those of one failure."""

    label: str
    share: float
    """Of what the nearest sayings of all failures weigh together, 0 to 1."""
    saying: str
    """The nearest of this failure."""
    nearness: float
    """How near that one is, 0 to 1."""


def likest(text: str) -> list[Likeness]:
    """Rank the failures whose sayings come nearest to a description; none where it shares too few words with any.

    Words and pairs of words count by how rare they are among all sayings; the ten nearest sayings vote.
    """
    known = _known()
    nearness: dict[int, float] = defaultdict(float)
    shared: Counter[int] = Counter()
    for mark, weight in _direction(text, known.rarity).items():
        for place, its_weight in known.by_mark[mark]:
            nearness[place] += weight * its_weight
            shared[place] += " " not in mark
    likely = [place for place in sorted(nearness, key=lambda one: -nearness[one]) if shared[place] >= _LEAST_SHARED]
    votes: dict[str, float] = {}
    nearest: dict[str, tuple[str, float]] = {}
    for place in likely[:_NEAREST]:
        near = nearness[place]
        label, saying = known.sayings[place]
        votes[label] = votes.get(label, 0.0) + near**_SHARPER
        nearest.setdefault(label, (saying, near))
    whole = sum(votes.values())
    ranked = sorted(votes, key=lambda label: -votes[label])
    return [Likeness(label, votes[label] / whole, *nearest[label]) for label in ranked]


class _Known(NamedTuple):
    """All sayings, ready to be searched."""

    sayings: tuple[tuple[str, str], ...]
    rarity: Mapping[str, float]
    by_mark: Mapping[str, list[tuple[int, float]]]


@cache
def _known() -> _Known:
    sayings = tuple((cause.label, saying) for cause in causes() for saying in cause.sayings)
    counts = Counter(mark for _, saying in sayings for mark in _marks(saying))
    rarity = {mark: math.log(len(sayings) / count) for mark, count in counts.items()}
    by_mark: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for place, (_, saying) in enumerate(sayings):
        for mark, weight in _direction(saying, rarity).items():
            by_mark[mark].append((place, weight))
    return _Known(sayings, rarity, by_mark)


def _direction(text: str, rarity: Mapping[str, float]) -> dict[str, float]:
    """Weigh the known marks of a text by their rarity, all together of length 1."""
    weights = {mark: rarity[mark] for mark in sorted(_marks(text)) if mark in rarity}
    length = math.hypot(*weights.values()) or 1.0
    return {mark: weight / length for mark, weight in weights.items()}


def _marks(text: str) -> set[str]:
    """List the words of a text that say something, without their endings, and all that stand side by side.

    Chinese signs are words of their own.
    """
    words = [_stem(word) for word in _WORD.findall(text.lower())]
    pairs = {f"{first} {second}" for first, second in pairwise(words)}
    return {word for word in words if word not in _SAYING_LITTLE} | pairs


def _stem(word: str) -> str:
    return _ENDING.sub("", word) if len(word) > _LONG_ENOUGH and word.isascii() else word
