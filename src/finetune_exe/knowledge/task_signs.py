"""Words that speak for a kind of task."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property

from finetune_exe.domain.task import TaskType
from finetune_exe.knowledge.rows import read_rows

_FILE = "task_signs.toml"
_ELSEWHERE = "task_signs_elsewhere.toml"
"""Signs in other languages than English."""
_UNSPACED = ("zh", "ja")
"""Languages that write no space between words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedWords:
    """Words that several signs have in common."""

    name: str
    words: tuple[str, ...]
    source: str
    date: date


@dataclass(frozen=True, kw_only=True)
class TaskSign:
    """Words that speak for one kind of task."""

    type: TaskType
    weight: float
    """How strongly they speak for it; the scale is free."""
    words: tuple[str, ...]
    """Regular expressions that begin at a word; <name> stands for the words of that name."""
    source: str
    date: date
    language: str = "en"

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """All the words as one expression."""
        words = "|".join(self.words)
        for named in _named_words():
            words = words.replace(f"<{named.name}>", f"(?:{'|'.join(named.words)})")
        begin = "" if self.language in _UNSPACED else r"\b"
        return re.compile(rf"{begin}(?:{words})", re.IGNORECASE)


@cache
def _named_words() -> tuple[NamedWords, ...]:
    return tuple(name for file in (_FILE, _ELSEWHERE) for name in read_rows(file, key="name", kind=NamedWords))


@cache
def task_signs() -> tuple[TaskSign, ...]:
    """Read all signs, those in English first."""
    return tuple(sign for file in (_FILE, _ELSEWHERE) for sign in read_rows(file, key="sign", kind=TaskSign))
