"""Rules of advice: numbers with the source they come from and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache

from finetune_exe.domain.values import Confidence, Decision, Interval, Leaf
from finetune_exe.knowledge.rows import read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule."""

    name: str
    says: str
    values: dict[str, float]
    source: str
    confidence: Confidence
    date: date

    def __getitem__(self, key: str) -> float:
        """Give one of the rule's numbers."""
        return self.values[key]

    @property
    def interval(self) -> Interval:
        """The range around its value."""
        return Interval(low=self["low"], mid=self["value"], high=self["high"])

    def decides(
        self, value: Leaf, reason: str, *,
        interval: Interval | None = None, alternatives: tuple[str, ...] = (), would_change: str | None = None,
    ) -> Decision:  # fmt: skip
        """Give a value by this rule, with the rule's source and how sure it is."""
        return Decision(
            value=value, reason=reason, source=self.source, confidence=self.confidence, interval=interval,
            alternatives=alternatives, would_change=would_change,
        )  # fmt: skip


@cache
def _rules() -> dict[str, Rule]:
    return {rule.name: rule for rule in read_rows("rules.toml", key="rule", kind=Rule)}


def rule(name: str) -> Rule:
    """Give a rule by its name."""
    return _rules()[name]
