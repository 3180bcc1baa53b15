"""What the metrics of a task are given and what they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One item, answered."""

    prompt: str
    """The last turn of the user."""
    answer: str
    reference: str
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Other columns of the row: tools, schema, test, instruction_id_list, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScores:
    """What one model's answers are worth."""

    items: dict[str, list[float]]
    """Scores of each item, 0 to 1, higher is better, by metric; the main one first."""
    figures: dict[str, float] = field(default_factory=dict)
    """Figures of all items together."""
    notes: tuple[str, ...] = ()


class TaskMetrics(Protocol):
    """An entry of `TASK_METRICS`."""

    name: str

    def score(self, items: Sequence[Answered]) -> TaskScores:
        """Score at least one answered item."""


def mean(values: Sequence[float]) -> float:
    """Give the mean, 0 of nothing."""
    return sum(values) / len(values) if values else 0.0
