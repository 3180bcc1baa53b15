"""What a review of training configurations found."""

from __future__ import annotations

from typing import Literal

from finetune_exe.domain.document import Value

Severity = Literal["error", "warning", "note"]
Form = Literal["yaml", "json", "python", "arguments"]
"""How a training program is told what to do."""


class ConfigurationFinding(Value):
    """One thing about a configuration file, with its place and its remedy."""

    code: str
    """What kind of finding it is; stable from version to version."""
    severity: Severity
    """An error stops the run or makes it train something else; a warning costs quality, time or a surprise later."""
    line: int
    column: int
    key: str
    """The setting it is about, as the file names it."""
    what: str
    why: str
    fix: str
    """What to write, in the file's own language."""
    source: str
    """Where it is known from: the program's own check, a measurement, a report."""


class ConfigurationReview(Value):
    """All findings about one file, in the order of its lines."""

    path: str
    tool: str
    """The training program it is for."""
    title: str
    """The same with the version its keys were checked with."""
    form: Form
    num_settings: int
    findings: tuple[ConfigurationFinding, ...] = ()
    not_looked_at: tuple[str, ...] = ()
    """What could not be judged, and why."""

    def count(self, severity: Severity) -> int:
        """Count the findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)
