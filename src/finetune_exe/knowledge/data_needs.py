"""How many rows a kind of task wants."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache

from finetune_exe.domain.task import TaskType
from finetune_exe.domain.values import Confidence
from finetune_exe.knowledge.rows import read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsWanted:
    """Rows that one kind of task wants."""

    type: TaskType
    per_label: bool
    """Whether the numbers are for each label."""
    floor: int
    """Rows wanted in all however few the labels are; 0 where there is no such bound."""
    low: int
    mid: int
    high: int
    because: str
    source: str
    confidence: Confidence
    date: date


@cache
def _all() -> dict[TaskType, RowsWanted]:
    return {wanted.type: wanted for wanted in read_rows("data_needs.toml", key="need", kind=RowsWanted)}


def rows_wanted(task: TaskType) -> RowsWanted:
    """Give the rows that a kind of task wants; "other" is no task here."""
    return _all()[task]
