"""Words that speak for a kind of task."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property

from finetune_exe.domain.task import TaskType
from finetune_exe.knowledge.rows import read_rows

_FILE = "task_signs.toml"


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

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """All the words as one expression."""
        words = "|".join(self.words)
        for named in _named_words():
            words = words.replace(f"<{named.name}>", f"(?:{'|'.join(named.words)})")
        return re.compile(rf"\b(?:{words})", re.IGNORECASE)


@cache
def _named_words() -> tuple[NamedWords, ...]:
    return read_rows(_FILE, key="name", kind=NamedWords)


@cache
def task_signs() -> tuple[TaskSign, ...]:
    """Read all signs."""
    return read_rows(_FILE, key="sign", kind=TaskSign)
