"""Report what is wrong with data, and change nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from finetune_exe.data.encoded import EncodedRow, encode_row
from finetune_exe.data.faults import FAULTS, FileNote
from finetune_exe.data.ingest import KeptRow, LostRow, ingest, open_sources
from finetune_exe.data.sources import find_sources
from finetune_exe.domain.dataset import CheckFinding, CheckReport, FindingRow
from finetune_exe.domain.task import FormatName
from finetune_exe.text.tokenizer import ChatTokenizer


def check(
    paths: Sequence[str],
    *,
    format_name: FormatName | None = None,
    columns: Mapping[str, str] | None = None,
    tokenizer: ChatTokenizer | None = None,
    max_length: int = 1024,
) -> CheckReport:
    """Read data as `prepare` would and report every row it would drop.

    Args:
        paths: Files, folders, patterns, or "stdlib".
        format_name: Form of the rows; None looks for itself.
        columns: Which columns hold "prompt" and "answer", where names and contents do not say so.
        tokenizer: The base model's; with it, lengths and loss masks are checked too.
        max_length: Longest training sequence in tokens; used with a tokenizer only.

    Raises:
        FineTuneError: C05, D01 to D04 or D07 where the data cannot be read at all.
    """
    unreadable: list[FileNote] = []
    opened = open_sources(
        find_sources(paths), format_name=format_name, columns=columns, unreadable=unreadable, preferences=True
    )
    records, kept = 0, 0
    odd: dict[str, list[KeptRow]] = {}
    lost: dict[str, list[LostRow]] = {}
    for row in ingest(opened, deduplicate=True, preferences=True):
        records += 1
        fate: KeptRow | EncodedRow | LostRow = row
        if isinstance(row, KeptRow) and tokenizer is not None:
            fate = encode_row(row, tokenizer, max_length=max_length)
        if isinstance(fate, LostRow):
            lost.setdefault(fate.fault.code, []).append(fate)
        else:
            kept += 1
        if isinstance(row, KeptRow):
            for note in row.conversation.notes:
                odd.setdefault(note, []).append(row)
    findings = [
        *(_finding(rows) for rows in sorted(lost.values(), key=len, reverse=True)),
        *(_oddity(code, rows) for code, rows in odd.items()),
        *(_file_finding(note) for note in (*unreadable, *(note for opening in opened for note in opening.notes))),
    ]
    return CheckReport(
        format=opened[0].detection.format.name if opened else None,
        format_evidence=opened[0].detection.evidence if opened else (),
        records=records,
        kept=kept,
        masks_checked=tokenizer is not None,
        findings=tuple(findings),
    )


def _finding(lost: Sequence[LostRow]) -> CheckFinding:
    first = lost[0]
    places = (
        FindingRow(index=row.position.index, line=row.position.line, of_index=row.of_index, source=row.position.place)
        for row in lost
    )
    return CheckFinding(
        code=first.fault.code,
        severity=FAULTS[first.fault.code].severity if first.fault.code in FAULTS else "error",
        rows=tuple(places),
        message=first.fault.message,
        fix=first.fault.fix,
    )


def _oddity(code: str, rows: Sequence[KeptRow]) -> CheckFinding:
    places = (FindingRow(index=row.position.index, line=row.position.line, source=row.position.place) for row in rows)
    kind = FAULTS[code]
    return CheckFinding(code=code, severity=kind.severity, rows=tuple(places), message=kind.meaning, fix=kind.fix)


def _file_finding(note: FileNote) -> CheckFinding:
    places = (FindingRow(index=None, line=line, source=f"{note.source}:{line}") for line in note.lines)
    message = f"{note.source}: {note.message}"
    return CheckFinding(code=note.code, severity=note.severity, rows=tuple(places), message=message, fix=note.fix)
