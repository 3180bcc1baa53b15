"""Words of web pages that belong to the page, not to what it says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache

from finetune_exe.knowledge.rows import read_rows

_BEFORE, _BEHIND = "([\"'|", ".,:;!?)]\"'|"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoilerplateFamily:
    """Phrases that say one thing."""

    name: str
    phrases: tuple[str, ...]
    source: str
    date: date


@cache
def boilerplate_phrases() -> dict[str, str]:
    """Map each phrase, in lower case, to the family it belongs to."""
    families = read_rows("boilerplate.toml", key="family", kind=BoilerplateFamily)
    return {phrase: family.name for family in families for phrase in family.phrases}


@cache
def boilerplate_signs() -> frozenset[str]:
    """Give words, one of which is in every text with a phrase: the longest word of each phrase.

    They come with the marks that may cling to them.
    """
    longest = {max(phrase.split(), key=len) for phrase in boilerplate_phrases()}
    marked = {before + word + behind for word in longest for before in ("", *_BEFORE) for behind in ("", *_BEHIND)}
    return frozenset(marked)
