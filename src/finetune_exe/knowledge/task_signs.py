"""Words that speak for a kind of task."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property

from finetune_exe.domain.task import TaskType
from finetune_exe.knowledge.rows import read_rows


@dataclass(frozen=True, kw_only=True)
class TaskSign:
    """Words that speak for one kind of task."""

    type: TaskType
    weight: float
    """How strongly they speak for it; the scale is free."""
    words: tuple[str, ...]
    """Regular expressions that begin at a word."""
    source: str
    date: date

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """All the words as one expression."""
        return re.compile(rf"\b(?:{'|'.join(self.words)})", re.IGNORECASE)


@cache
def task_signs() -> tuple[TaskSign, ...]:
    """Read all signs."""
    return read_rows("task_signs.toml", key="sign", kind=TaskSign)
