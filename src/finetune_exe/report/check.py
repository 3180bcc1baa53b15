"""What is wrong with data, kind by kind."""

from __future__ import annotations

from finetune_exe.domain.dataset import CheckFinding, CheckReport
from finetune_exe.report.page import Block, Bullet, Field, Heading, Table, Title, Words, render_text
from finetune_exe.units import format_count

PLACES_SHOWN = 8


def render_check(report: CheckReport) -> str:
    """Write what a check found: each fault with its number, its places, and how to mend it."""
    return render_text(_check_page(report))


def _check_page(report: CheckReport) -> list[Block]:
    masks = "proven by two derivations" if report.masks_checked else "not looked at; --model MODEL proves them too"
    title = Title("DATASET CHECK", (
        Field("Format", "; ".join((report.format, *report.format_evidence))),
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
    places = [row.source if row.of_index is None else f"{row.source} (as row {row.of_index})" for row in finding.rows]
    more = f" and {format_count(len(places) - PLACES_SHOWN)} more" if len(places) > PLACES_SHOWN else ""
    return [
        Bullet(f"what: {finding.message}"),
        Bullet(f"where: {', '.join(places[:PLACES_SHOWN])}{more}"),
        Bullet(f"fix: {finding.fix}"),
    ]
