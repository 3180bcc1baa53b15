"""What is wrong with data, kind by kind."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_exe.domain.dataset import CheckFinding, CheckReport, DataQuality, FindingRow
from finetune_exe.report.page import Block, Bullet, Field, Heading, Table, Title, Words, render_text
from finetune_exe.units import format_count

PLACES_SHOWN = 8
EXTRACTS_SHOWN = 3


def render_check(report: CheckReport) -> str:
    """Write what a check found for a terminal: each fault with its number, its places, and how to mend it."""
    masks = "proven by two derivations" if report.masks_checked else "not looked at; --model MODEL proves them too"
    title = Title("DATASET CHECK", (
        Field("Format", "; ".join((report.format or "none", *report.format_evidence))),
        Field("Rows", f"{format_count(report.records)} seen, {format_count(report.kept)} without an error"),
        Field("Quality", _quality(report.quality, report.records)),
        Field("Masks", masks),
    ))  # fmt: skip
    if not report.findings:
        return render_text([title, Words("Nothing is wrong with these rows.")])
    rows = tuple(
        (finding.code, finding.severity, count_words(finding), _share(finding, report.records))
        for finding in report.findings
    )
    blocks: list[Block] = [title, Heading("FINDINGS"), Table(header=("Code", "Severity", "Rows", "Share"), rows=rows)]
    for finding in report.findings:
        blocks += [Heading(f"{finding.code} ({finding.severity})"), *_details(finding)]
    return render_text(blocks)


def _quality(quality: DataQuality, records: int) -> str:
    """Say the score and the parts it comes from."""
    if not records:
        return "no row to judge"
    return (
        f"{quality.score:.1%} of the rows have no error and no warning: {quality.sound:.1%} are sound, "
        f"{quality.distinct:.1%} repeat no other, {quality.unsuspicious:.1%} have no warning"
    )


def count_words(finding: CheckFinding) -> str:
    """Say how many rows have a fault, or that it is one of the whole file."""
    return format_count(len(finding.rows)) if finding.rows or finding.source is None else "file"


def _share(finding: CheckFinding, records: int) -> str:
    rows = sum(row.split == "train" for row in finding.rows)
    return f"{rows / records:.1%}" if rows and records else ""


def _details(finding: CheckFinding) -> list[Block]:
    blocks: list[Block] = [Bullet(f"what: {finding.message}")]
    if finding.source is not None:
        blocks.append(Bullet(f"where: {finding.source}"))
    if finding.rows:
        more = len(finding.rows) - PLACES_SHOWN
        rest = f" and {format_count(more)} more" if more > 0 else ""
        blocks.append(Bullet(f"where: {_places(finding.rows[:PLACES_SHOWN])}{rest}"))
    quoted = list(dict.fromkeys(row.extract for row in finding.rows if row.extract))[:EXTRACTS_SHOWN]
    blocks += [Bullet(f"such as: {extract}") for extract in quoted]
    return [*blocks, Bullet(f"fix: {finding.fix}")]


def _places(rows: Sequence[FindingRow]) -> str:
    """List where rows stand, naming each file once, and the rows that they repeat."""
    places = []
    file = None
    for row in rows:
        name, place_in_file = _split_source(row)
        place = row.source if name != file or not place_in_file else place_in_file
        other = other_place(row)
        places.append(place if other is None else f"{place} (with {other})")
        file = name
    return ", ".join(places)


def other_place(row: FindingRow) -> str | None:
    """Say where the row stands that this one repeats: its place where it is in the same file."""
    if row.of_source is None:
        return None
    file, _ = _split_source(row)
    place = row.of_source.removeprefix(file)
    if place[:1] == ":" and place[1:].isdecimal():
        return f"line {place[1:]}"
    return place[2:] if place.startswith(", row ") else row.of_source


def _split_source(row: FindingRow) -> tuple[str, str]:
    """Part a row's source into its file and its place there: its line, or its record where it has none."""
    if row.line is not None:
        return row.source.removesuffix(f":{row.line}"), f"line {row.line}"
    file, comma, place = row.source.rpartition(", ")
    return (file, place) if comma and place.startswith("row ") else (row.source, "")
