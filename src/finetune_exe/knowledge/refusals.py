"""How answers begin that decline to answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import cache

from finetune_exe.knowledge.rows import read_rows

OPENING_CHARACTERS = 400
"""A refusal comes at the beginning of an answer."""


_HELPS_ALL_THE_SAME = re.compile(
    r"[^.!?]{0,60},? but (?:i (?:can|could|would|am able|'?m able|will)|i'(?:ll|d)|here)\b"
)
"""What follows words that only sound like a refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalPhrases:
    """Openings and refusals of one language, as regular expressions."""

    code: str
    openings: tuple[str, ...]
    """What may stand before: an apology, a greeting."""
    refusals: tuple[str, ...]
    source: str
    date: date


BEYOND_ASCII = frozenset({"ru", "zh", "ja", "ko", "ar", "hi", "el", "uk", "vi", "tr", "pl", "th"})
"""Languages whose refusals all have a letter that is not ASCII."""


@cache
def _refusals(*, is_ascii: bool) -> re.Pattern[str]:
    languages = read_rows("refusals.toml", key="language", kind=RefusalPhrases)
    if is_ascii:
        languages = tuple(language for language in languages if language.code not in BEYOND_ASCII)
    forms = (f"(?:{'|'.join(language.openings)}){{0,3}}(?:{'|'.join(language.refusals)})" for language in languages)
    return re.compile("|".join(f"(?:{form})" for form in forms))


def refusal_in(answer: str) -> str | None:
    """Give the words with which an answer declines at its beginning, or None."""
    opening = answer[:OPENING_CHARACTERS].lstrip(" \n\t\"'*").casefold().replace("\u2019", "'")
    found = _refusals(is_ascii=opening.isascii()).match(opening)
    return found[0] if found and _HELPS_ALL_THE_SAME.match(opening, found.end()) is None else None
