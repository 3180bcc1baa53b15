"""Limits of time and money that a description names: how long the training may take, what it may cost."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

from finetune_exe.knowledge.limit_words import Currency, LimitWords, currencies, limit_words

_UNSPACED = ("zh", "ja")
"""Languages that write no space between words."""
_NIGHT_HOURS, _WEEKEND_HOURS = 10.0, 48.0
"""A night is one from ten to eight, a weekend two whole days; the plan says which hours were understood."""
_EDGE = r"[,;:.!?()\u2013\u2014\uff0c\u3002\uff1b\uff1a\u3001\uff08\uff09]"
"""What parts clauses."""
_FILLERS, _NEAR = 6, 2
"""Words that may stand between a word of training and the amount, and with which it still stands beside it."""


class Limit(NamedTuple):
    """A limit that was named."""

    field: Literal["hours", "budget_usd"]
    value: float
    words: str
    """As they stand in the description."""
    remark: str = ""
    """What another currency was taken for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Language:
    """The words of one language, ready to be looked for."""

    words: LimitWords
    amounts: tuple[re.Pattern[str], ...]
    speaks: re.Pattern[str]
    training: re.Pattern[str]
    budget: re.Pattern[str]
    weak: re.Pattern[str]
    following: re.Pattern[str]
    begins: re.Pattern[str]
    ends: re.Pattern[str]
    ends_budget: re.Pattern[str]


def read_limits(description: str, *, speaks: bool, names_end: Collection[int]) -> Iterator[Limit]:
    """List the limits of the training that a description names.

    A bounded amount is one only where the training is spoken of, and where the amount stands beside a word for it or
    for a budget, right behind the name of a model or GPU that is wished for, or in a clause of its own; "reply within 2
    hours" is none.

    Args:
        description: The task in words, Latin words parted from Chinese and Japanese ones.
        speaks: Whether a model, a GPU or a method is wished for, which speaks of a training.
        names_end: Where the names of wished models and GPUs end.
    """
    taken: list[range] = []
    for language in _languages():
        if not (speaks or language.speaks.search(description)):
            continue
        for pattern in language.amounts:
            for match in pattern.finditer(description):
                known = any(match.start() < other.stop and other.start < match.end() for other in taken)
                if not known and _is_of_training(description, match, language, names_end):
                    taken.append(range(match.start(), match.end()))
                    yield _limit(match, language.words)


def _is_of_training(description: str, match: re.Match[str], language: _Language, names_end: Collection[int]) -> bool:
    """Say whether an amount is one of the training, by the words around it."""
    before, behind, said = description[: match.start()], description[match.end() :], match.groupdict()
    bound = any(said.get(name) for name in ("most", "after", "overnight", "weekend"))
    weak = said.get("weak") or language.weak.match(match[0])
    of_training, of_budget = language.training.search(before), language.budget.search(before)
    if of_training and ((bound and weak) or ((bound or weak) and _is_near(of_training))):
        return True
    if of_budget and _is_near(of_budget):
        return bound or language.ends_budget.match(behind) is not None
    if follows := language.following.match(behind):
        return bound or language.ends.match(behind[follows.end() :]) is not None
    apart = language.begins.search(before) and language.ends.match(behind)
    return bound and (bool(apart) or len(before.rstrip()) in names_end)


def _is_near(word: re.Match[str]) -> bool:
    """Say whether a word of training or budget has at most two words between it and the amount."""
    return len(word["between"].split()) <= _NEAR


def _limit(match: re.Match[str], words: LimitWords) -> Limit:
    said, text = match.groupdict(), match[0].strip()
    if said.get("overnight"):
        return Limit("hours", _NIGHT_HOURS, text)
    if said.get("weekend"):
        return Limit("hours", _WEEKEND_HOURS, text)
    number = _number(match["number"], words)
    if "hours" in said:
        hours = number if said["hours"] else number / 60 if said["minutes"] else number * 24
        return Limit("hours", hours, text)
    money = _currency(match["currency"])
    if money.usd == 1:
        return Limit("budget_usd", number, text)
    return Limit("budget_usd", round(number * money.usd, 2), text, f"a {money.name} taken for {money.usd:g} dollars")


def _number(said: str, words: LimitWords) -> float:
    """Read a number; a mark before three last digits parts thousands, any other one a fraction."""
    named = words.numbers.get(said.lower())
    if named is not None:
        return named
    digits = said.rstrip("kK")
    plain = re.sub(r"[.,](?=\d{3}(?:\D|$))", "", digits).replace(",", ".")
    return float(plain) * (1000 if digits != said else 1)


def _currency(said: str) -> Currency:
    return next(money for money in currencies() if re.fullmatch("|".join(money.words), said, re.IGNORECASE))


@cache
def _languages() -> tuple[_Language, ...]:
    return tuple(map(_language, limit_words()))


def _language(words: LimitWords) -> _Language:
    """Put the words of a language into expressions."""
    spaced = words.language not in _UNSPACED
    begin, end, gap = (r"(?<![\w.,])", r"(?!\w)", r"\s+") if spaced else ("", "", r"\s*")

    def any_of(expressions: Iterable[str]) -> str:
        return f"(?:{'|'.join(expressions)}){end}"

    def compiled(expression: str) -> re.Pattern[str]:
        return re.compile(expression, re.IGNORECASE)

    named = sorted(map(re.escape, words.numbers), key=len, reverse=True)
    number = rf"(?P<number>\d+(?:[.,]\d+)*k?|{'|'.join(named)})"
    first = rf"{begin}(?:(?P<most>{'|'.join(words.most)})\s*|(?P<weak>{any_of(words.weak)})\s*)?"
    last = rf"(?:\s*(?P<after>{any_of(words.after)}))?"
    unit = "|".join(f"(?P<{name}>{'|'.join(getattr(words, name))})" for name in ("hours", "minutes", "days"))
    money = f"(?P<currency>{'|'.join(word for one in currencies() for word in one.words)})"
    behind = rf"(?P<between>(?:{gap}{any_of(words.filler)}){{0,{_FILLERS}}})\s*:?\s*$"
    edge = rf"{_EDGE}|{begin}{any_of(words.also)}"
    return _Language(
        words=words,
        amounts=(
            compiled(rf"{first}{number}[\s-]*(?:{unit}){end}{last}"),
            compiled(rf"{first}{number}\s*{money}{end}{last}"),
            compiled(rf"{first}{money}\s*{number}{end}{last}"),
            compiled(rf"{begin}(?P<overnight>{any_of(words.overnight)})"),
            compiled(rf"{begin}(?P<weekend>{any_of(words.weekend)})"),
        ),
        speaks=compiled(begin + any_of(words.speaks)),
        training=compiled(begin + any_of(words.training) + behind),
        budget=compiled(begin + any_of(words.budget) + behind),
        weak=compiled(any_of(words.weak)),
        following=compiled(r"\s*" + any_of(words.following)),
        begins=compiled(rf"(?:^|{edge})\s*$"),
        ends=compiled(rf"\s*(?:$|{edge})"),
        ends_budget=compiled(rf"\s*(?:$|{edge}|{begin}{any_of(words.further)})"),
    )
