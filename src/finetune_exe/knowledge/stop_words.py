"""The commonest words of languages in Latin script."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache

from finetune_exe.knowledge.rows import read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class StopWords:
    """The commonest words of one language."""

    code: str
    """ISO 639-1 code of the language."""
    words: str
    """The words, with spaces between."""
    source: str
    date: date


@cache
def stop_words() -> dict[str, dict[str, float]]:
    """Map each common word to the languages it speaks for, and how strongly: less, the more languages share it."""
    owners: dict[str, list[str]] = {}
    for language in read_rows("stop_words.toml", key="language", kind=StopWords):
        for word in language.words.split():
            owners.setdefault(word, []).append(language.code)
    return {word: dict.fromkeys(codes, 1 / len(codes)) for word, codes in owners.items()}
