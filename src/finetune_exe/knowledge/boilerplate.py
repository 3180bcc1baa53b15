"""Words of web pages that belong to the page, not to what it says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import cache

from finetune_exe.knowledge.rows import read_rows

_BEFORE, _BEHIND = "([\"'|\u201c\u2018\u00ab\u201e\u00b7\u2022", ".,:;!?)]\"'|\u201d\u2019\u00bb\u201c\u2026"
_UNSPACED = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")
"""Scripts that write words without spaces between them."""


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
def unspaced_phrases() -> tuple[str, ...]:
    """Give the phrases in scripts without spaces, which no word tells of."""
    return tuple(filter(is_unspaced, boilerplate_phrases()))


def is_unspaced(text: str) -> bool:
    """Say whether a text has characters of such a script."""
    return _UNSPACED.search(text) is not None


@cache
def boilerplate_signs() -> dict[str, tuple[str, ...]]:
    """Map the longest word of each phrase, with the marks that may cling to it, to the phrases it is in."""
    signs: dict[str, tuple[str, ...]] = {}
    for phrase in boilerplate_phrases():
        word = max(phrase.split(), key=len)
        for marked in (before + word + behind for before in ("", *_BEFORE) for behind in ("", *_BEHIND)):
            signs[marked] = (*signs.get(marked, ()), phrase)
    return signs
