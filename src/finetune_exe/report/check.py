"""What is wrong with data, kind by kind."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_exe.domain.dataset import CheckFinding, CheckReport, FindingRow
from finetune_exe.report.page import Block, Bullet, Field, Heading, Table, Title, Words, render_text
from finetune_exe.units import format_count

PLACES_SHOWN = 8


def render_check(report: CheckReport) -> str:
    """Write what a check found: each fault with its number, its places, and how to mend it."""
    return render_text(_check_page(report))


def _check_page(report: CheckReport) -> list[Block]:
    masks = "proven by two derivations" if report.masks_checked else "not looked at; --model MODEL proves them too"
    title = Title("DATASET CHECK", (
        Field("Format", "; ".join((report.format or "none", *report.format_evidence))),
        Field("Rows", f"{format_count(report.records)} seen, {format_count(report.kept)} good"),
        Field("Masks", masks),
    ))  # fmt: skip
    if not report.findings:
        return [title, Words("Nothing is wrong with these rows.")]
    rows = tuple((finding.code, format_count(len(finding.rows)), finding.severity) for finding in report.findings)
    blocks: list[Block] = [title, Heading("FINDINGS"), Table(header=("Code", "Rows", "Severity"), rows=rows)]
    for finding in report.findings:
        blocks += [Heading(finding.code), *_details(finding)]
    return blocks


def _details(finding: CheckFinding) -> list[Block]:
    more = len(finding.rows) - PLACES_SHOWN
    if not finding.rows:
        return [Bullet(f"what: {finding.message}"), Bullet(f"fix: {finding.fix}")]
    return [
        Bullet(f"what: {finding.message}"),
        Bullet(f"where: {_places(finding.rows[:PLACES_SHOWN])}{f' and {format_count(more)} more' if more > 0 else ''}"),
        Bullet(f"fix: {finding.fix}"),
    ]


def _places(rows: Sequence[FindingRow]) -> str:
    """List where rows stand, naming each file once; the rows that others repeat are counted from 1."""
    places = []
    file = None
    for row in rows:
        name = row.source.removesuffix(f":{row.line}")
        place = row.source if name != file or row.line is None else f"line {row.line}"
        repeated = f" (repeats row {format_count(row.of_index + 1)})" if row.of_index is not None else ""
        places.append(place + repeated)
        file = name
    return ", ".join(places)
