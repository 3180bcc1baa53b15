"""What was measured of the fine-tuning methods."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache

from finetune_exe.domain.method_kinds import MethodKind
from finetune_exe.knowledge.rows import read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodFacts:
    """One method."""

    kind: MethodKind
    accuracy: float | None = None
    """Percent right on GSM8K after the comparison's training; None where it was not in it."""
    forgetting: float | None = None
    """Rise of the loss on generic text, in nats a token."""
    remark: str
    use_case: str
    source: str
    date: date

    @property
    def quality(self) -> str:
        """The measurement in words."""
        if self.accuracy is None or self.forgetting is None:
            return self.remark
        return f"GSM8K {self.accuracy:.1f}, forgetting {self.forgetting:.3f} ({self.remark})"


@cache
def method_facts() -> tuple[MethodFacts, ...]:
    """Read all methods, in the order of the specification's table."""
    return read_rows("methods.toml", key="method", kind=MethodFacts)
