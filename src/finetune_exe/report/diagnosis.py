"""What went wrong, quoted from the run itself."""

from __future__ import annotations

import json
import shlex

from finetune_exe.domain.diagnosis import Course, Diagnosis, Evidence, Finding
from finetune_exe.report.boxes import NO_BREAK, clean, shorten
from finetune_exe.report.page import (
    Blank,
    Block,
    Bullet,
    Field,
    Heading,
    Line,
    Title,
    Verbatim,
    Words,
    render_markdown,
    render_text,
)

_EVIDENCE_COLUMNS = 400
_PLOT_COLUMNS, _PLOT_ROWS = 60, 8
_CAP_QUANTILE = 0.02
"""Share of the largest losses that are drawn at the upper edge, so that one spike does not flatten the rest."""
_TITLES = {"trl": "TRL", "llamafactory": "LLaMA-Factory", "swift": "ms-swift", "axolotl": "Axolotl",
           "unsloth": "Unsloth", "deepspeed": "DeepSpeed"}  # fmt: skip


def render_diagnosis(diagnosis: Diagnosis) -> str:
    """Write each finding with how sure it is, the lines that show it, its cause and its fix."""
    return render_text(_diagnosis_page(diagnosis))


def render_diagnosis_markdown(diagnosis: Diagnosis) -> str:
    """Write the same as Markdown."""
    return render_markdown(_diagnosis_page(diagnosis))


def _diagnosis_page(diagnosis: Diagnosis) -> list[Block]:
    best = diagnosis.findings[0] if diagnosis.findings else None
    answer = f"{best.title}{_sureness(best, form=' ({})')}" if best else "nothing found"
    head: list[Line] = [Field("Read", diagnosis.subject), Field("Finding", answer)]
    if diagnosis.tool:
        head.insert(1, Field("Tool", _TITLES.get(diagnosis.tool, diagnosis.tool)))
    if diagnosis.versions:
        head.insert(2, Field("Versions", ", ".join(f"{name} {at}" for name, at in diagnosis.versions.items())))
    blocks: list[Block] = [Title("DIAGNOSIS", tuple(head))]
    plot = plot_course(diagnosis.course)
    if plot:
        blocks += [Blank(), Verbatim("\n".join(plot).replace(" ", NO_BREAK))]
    for finding in diagnosis.findings:
        blocks += _finding(finding)
    return (
        blocks if best else [*blocks, Words("Nothing here is known to be wrong, and nothing shows that all is well.")]
    )


def plot_course(course: Course) -> list[str]:
    """Draw the losses in characters: train as dots, validation as o; an empty list where there are too few."""
    if len(course.train) + len(course.validation) < 4:
        return []
    values = sorted(loss for _, loss in (*course.train, *course.validation))
    low, high = values[0], values[max(0, round(len(values) * (1 - _CAP_QUANTILE)) - 1)]
    steps = [step for step, _ in (*course.train, *course.validation)]
    first, last = min(steps), max(steps)
    rows = [[" "] * _PLOT_COLUMNS for _ in range(_PLOT_ROWS)]
    for points, mark in ((course.train, "."), (course.validation, "o")):
        for step, loss in points:
            column = round((step - first) / (last - first or 1) * (_PLOT_COLUMNS - 1))
            height = min(1.0, (loss - low) / (high - low or 1))
            rows[round((1 - height) * (_PLOT_ROWS - 1))][column] = mark
    labels = [f"{high:.4g}", *[""] * (_PLOT_ROWS - 2), f"{low:.4g}"]
    width = max(map(len, labels))
    drawn = [f"{label:>{width}} |{''.join(row).rstrip()}" for label, row in zip(labels, rows, strict=True)]
    end = f"{last:g}"
    axis = f"{first:g}{end:>{_PLOT_COLUMNS - len(f'{first:g}')}}"
    legend = "train ." + ("   validation o" if course.validation else "")
    return [*drawn, f"{'':>{width}} +{'-' * _PLOT_COLUMNS}", f"{'':>{width}}  {axis}", f"{'':>{width}}  {legend}"]


def _finding(finding: Finding) -> list[Block]:
    blocks: list[Block] = [
        Heading(f"{finding.label}{_sureness(finding, form=': {}')}"),
        Words(finding.title),
        *map(_evidence, finding.evidence),
        Blank(),
        Field("Cause", finding.cause),
        Field("Fix", finding.fix),
    ]
    if finding.patch:
        blocks.append(Field("Set", " ".join(_assignment(path, value) for path, value in finding.patch.items())))
    blocks += [Field(f"In {_TITLES.get(tool, tool)}", "; ".join(lines)) for tool, lines in finding.fix_in.items()]
    if finding.proof:
        blocks.append(Field("Proof", finding.proof))
    if finding.questions:
        blocks += [Words("What would tell more:"), *map(Bullet, finding.questions)]
    return blocks


def _evidence(evidence: Evidence) -> Field:
    place = "figure" if evidence.line is None else f"line {evidence.line}"
    return Field(f"  {place}", shorten(clean(evidence.text), _EVIDENCE_COLUMNS))


def _assignment(path: str, value: str | int | float | bool | None) -> str:
    written = value if isinstance(value, str) else json.dumps(value)
    return f"--set {shlex.quote(f'{path}={written}')}"


def _sureness(finding: Finding, *, form: str) -> str:
    """Say how sure a finding is; that nothing was recognised is no finding to be sure of."""
    return "" if finding.label == "not_recognised" else form.format(f"{100 * finding.confidence:.0f} % sure")
