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
    place: str | None = None
    """Where or how it came about, such as `evaluation` for memory; None where nothing says."""
    since_step: float | None = None
    """Step at which it began, where a curve shows it."""
    effect: float | None = None
    """How large it is; the evidence says of what."""
    fix_in: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """What to write in the tool's own configuration, by tool."""
    own_keys: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    """Keys of the tool's own configuration, with no counterpart in our plan, that are to be set as well."""
    proof: str = ""
    """A check that would show whether it is this, and whether the fix held."""
    questions: tuple[str, ...] = ()
    """What would tell it from its neighbours."""
    sources: tuple[str, ...] = ()
    """Threads in which people had it."""


class Course(Value):
    """The losses of the run, few enough points to draw."""

    train: tuple[tuple[float, float], ...] = ()
    """Step, or number of the point where no step was logged, and loss."""
    validation: tuple[tuple[float, float], ...] = ()


class Diagnosis(Document):
    """Findings, best first."""

    subject: str
    """What was read."""
    findings: tuple[Finding, ...]
    tool: str | None = None
    """The training program, where the text or the configuration tells."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of libraries that the log names."""
    course: Course = Course()
