"""What was weighed while a plan was made: base models, methods, forms to run in, and how much data the task wants."""

from __future__ import annotations

from typing import Literal

from finetune_exe.domain.document import Value
from finetune_exe.domain.method_kinds import MethodKind
from finetune_exe.domain.values import Confidence, Interval, Leaf


class Candidate(Value):
    """A base model that was considered."""

    reference: str
    """Hub id, or "embedded"."""
    name: str
    num_parameters: int
    license: str
    chosen: bool
    reasons: tuple[str, ...]
    """What speaks for it, and what against it, most important first; memory always comes first."""

    @property
    def is_too_large(self) -> bool:
        """Whether it does not fit the memory by rule of thumb."""
        return self.reasons[0].startswith("against: ")


class Considered(Value):
    """A way to run that was weighed: a method with its batch, checkpointing, optimizer and GPUs."""

    method: MethodKind
    settings: dict[str, Leaf]
    """What sets it apart, by dotted path."""
    memory_bytes: float
    """The high end of what it needs on one GPU, or of the process on a CPU."""
    tokens_per_second: float | None = None
    """Of all GPUs together; None where it does not fit or the speed is not known."""
    verdict: Literal["chosen", "slower", "rounds", "too large"]
    """What rounds weights and is not clearly faster stays behind what leaves them whole."""


class MethodOption(Value):
    """One row of the table of methods: what each would take here."""

    kind: MethodKind
    memory: Interval | None
    """Bytes in the fastest form that fits, or in the smallest form where none does."""
    tokens_per_second: Interval | None
    quality: str
    """What was measured of it, and where."""
    use_case: str
    fits: bool | None
    chosen: bool


class DataNeeds(Value):
    """How much data the task wants, and what will be looked at."""

    minimum_samples: int
    recommended_samples: int
    recommended: Interval | None = None
    """Range in which the rows that are enough are expected."""
    confidence: Confidence = "low"
    """How sure the recommended number is."""
    reason: str
    source: str
    test_samples: int = 0
    """Test rows that find the wanted effect four times in five, at 5 %."""
    test_reason: str = ""
    """What effect is wanted, and what is assumed about how alike base and tuned model answer."""
    quality_checks: tuple[str, ...]
