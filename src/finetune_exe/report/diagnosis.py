"""What went wrong, quoted from the run itself."""

from __future__ import annotations

import json
import shlex

from finetune_exe.domain.diagnosis import Diagnosis, Evidence, Finding
from finetune_exe.report.boxes import clean, shorten
from finetune_exe.report.page import Blank, Block, Field, Heading, Title, Words, render_markdown, render_text

_EVIDENCE_COLUMNS = 400


def render_diagnosis(diagnosis: Diagnosis) -> str:
    """Write each finding with how sure it is, the lines that show it, its cause and its fix."""
    return render_text(_diagnosis_page(diagnosis))


def render_diagnosis_markdown(diagnosis: Diagnosis) -> str:
    """Write the same as Markdown."""
    return render_markdown(_diagnosis_page(diagnosis))


def _diagnosis_page(diagnosis: Diagnosis) -> list[Block]:
    best = diagnosis.findings[0] if diagnosis.findings else None
    answer = f"{best.title} ({_sureness(best)})" if best else "nothing found"
    blocks: list[Block] = [Title("DIAGNOSIS", (Field("Read", diagnosis.subject), Field("Finding", answer)))]
    for finding in diagnosis.findings:
        blocks += _finding(finding)
    return (
        blocks if best else [*blocks, Words("Nothing here is known to be wrong, and nothing shows that all is well.")]
    )


def _finding(finding: Finding) -> list[Block]:
    patch = (
        [Field("Set", " ".join(_assignment(path, value) for path, value in finding.patch.items()))]
        if finding.patch
        else []
    )
    return [
        Heading(f"{finding.label}: {_sureness(finding)}"),
        Words(finding.title),
        *map(_evidence, finding.evidence),
        Blank(),
        Field("Cause", finding.cause),
        Field("Fix", finding.fix),
        *patch,
    ]


def _evidence(evidence: Evidence) -> Field:
    place = "figure" if evidence.line is None else f"line {evidence.line}"
    return Field(f"  {place}", shorten(clean(evidence.text), _EVIDENCE_COLUMNS))


def _assignment(path: str, value: str | int | float | bool | None) -> str:
    written = value if isinstance(value, str) else json.dumps(value)
    return f"--set {shlex.quote(f'{path}={written}')}"


def _sureness(finding: Finding) -> str:
    return f"{100 * finding.confidence:.0f} % sure"
