"""What went wrong in a run, with the evidence."""

from __future__ import annotations

from pydantic import Field

from finetune_exe.domain.document import Document, Value


class Evidence(Value):
    """A quoted line."""

    line: int | None
    """Line number from 1 in the text given; None for evidence that is a computed figure."""
    text: str


class Finding(Value):
    """One cause, ranked by how sure we are."""

    label: str
    """Stable name, such as `cuda_oom` or `overfitting`; `healthy` when nothing is wrong."""
    confidence: float = Field(ge=0, le=1)
    title: str
    evidence: tuple[Evidence, ...]
    cause: str
    fix: str
    patch: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    """Settings of our plan, by dotted path, that would mend it."""


class Diagnosis(Document):
    """Findings, best first."""

    subject: str
    """What was read."""
    findings: tuple[Finding, ...]
