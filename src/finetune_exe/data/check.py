"""Report what is wrong with data, and change nothing."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_exe.data.encoded import EncodedRow, encode_row
from finetune_exe.data.ingest import KeptRow, LostRow, ingest, open_sources
from finetune_exe.data.sources import find_sources
from finetune_exe.domain.dataset import CheckFinding, CheckReport, FindingRow
from finetune_exe.domain.task import FormatName
from finetune_exe.text.tokenizer import ChatTokenizer


def check(
    paths: Sequence[str],
    *,
    format_name: FormatName | None = None,
    tokenizer: ChatTokenizer | None = None,
    max_length: int = 1024,
) -> CheckReport:
    """Read data as `prepare` would and report every row it would drop.

    Args:
        paths: Files, folders, patterns, or "stdlib".
        format_name: Form of the rows; None looks for itself.
        tokenizer: The base model's; with it, lengths and loss masks are checked too.
        max_length: Longest training sequence in tokens; used with a tokenizer only.

    Raises:
        FineTuneError: C05, D01 to D04 or D07 where the data cannot be read at all.
    """
    opened = open_sources(find_sources(paths), format_name=format_name)
    records, kept = 0, 0
    lost: dict[str, list[LostRow]] = {}
    for row in ingest(opened, deduplicate=True):
        records += 1
        fate: KeptRow | EncodedRow | LostRow = row
        if isinstance(row, KeptRow) and tokenizer is not None:
            fate = encode_row(row, tokenizer, max_length=max_length)
        if isinstance(fate, LostRow):
            lost.setdefault(fate.fault.code, []).append(fate)
        else:
            kept += 1
    detection = opened[0].detection
    return CheckReport(
        format=detection.format.name,
        format_evidence=detection.evidence,
        records=records,
        kept=kept,
        masks_checked=tokenizer is not None,
        findings=tuple(_finding(rows) for rows in sorted(lost.values(), key=len, reverse=True)),
    )


def _finding(lost: Sequence[LostRow]) -> CheckFinding:
    first = lost[0]
    places = (
        FindingRow(index=row.position.index, line=row.position.line, of_index=row.of_index, source=row.position.place)
        for row in lost
    )
    return CheckFinding(
        code=first.fault.code,
        severity="error",
        rows=tuple(places),
        message=first.fault.message,
        fix=first.fault.fix,
    )
