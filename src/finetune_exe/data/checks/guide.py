"""The list of checks as the guide prints it."""

from __future__ import annotations

from finetune_exe.data.checks import CHECKS
from finetune_exe.data.checks.check import Check, RowCheck
from finetune_exe.data.checks.findings import LEAKS
from finetune_exe.data.faults import FILE_FAULTS, LINE_FAULTS, ROW_FAULTS, ROW_NOTES


def checks_reference() -> str:
    """Write every check as Markdown tables: code, severity, meaning, fix."""
    own = {check.code: (_severity(check), check.message, check.fix) for check in CHECKS}
    reading = {code: kind for code, kind in {**ROW_FAULTS, **ROW_NOTES}.items() if code not in own}
    parts = (
        ("Rows", own.items()),
        ("Rows that should be kept apart", LEAKS.items()),
        ("Reading a row", reading.items()),
        ("Reading a line", LINE_FAULTS.items()),
        ("Reading a file", FILE_FAULTS.items()),
    )
    lines = []
    for title, kinds in parts:
        lines += [f"### {title}", "", "| Code | Severity | What is wrong | Fix |", "|---|---|---|---|"]
        lines += [
            f"| `{code}` | {severity} | {_cell(meaning)} | {_cell(fix)} |" for code, (severity, meaning, fix) in kinds
        ]
        lines.append("")
    return "\n".join(lines).rstrip()


def _severity(check: Check) -> str:
    return f"{check.severity} or warning" if isinstance(check, RowCheck) and check.likely else check.severity


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
