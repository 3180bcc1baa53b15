"""What a check found, as a page for a browser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from finetune_exe import __version__
from finetune_exe.domain.dataset import CheckFinding, CheckReport, FindingRow
from finetune_exe.report.check import count_words, other_place
from finetune_exe.report.html.charts import histogram_figure, labels_table
from finetune_exe.report.html.document import document, fit, section, severity_name, table, tiles
from finetune_exe.report.html.markup import Child, Markup, data_text, element
from finetune_exe.report.html.tokens import TokenDetail, token_section
from finetune_exe.report.token_view import ShownRow
from finetune_exe.units import format_count, format_percent


class _Detail(NamedTuple):
    findings: int
    places: int
    extracts: int
    characters: int
    """Of any text out of the data."""
    tokens: TokenDetail


_DETAILS = (
    _Detail(findings=300, places=8, extracts=3, characters=300, tokens=TokenDetail(rows=3, tokens=500)),
    _Detail(findings=150, places=4, extracts=2, characters=160, tokens=TokenDetail(rows=3, tokens=250)),
    _Detail(findings=80, places=2, extracts=1, characters=80, tokens=TokenDetail(rows=1, tokens=100)),
    _Detail(findings=20, places=1, extracts=0, characters=40, tokens=TokenDetail(rows=0, tokens=0)),
)


def check_page(report: CheckReport, rows: Sequence[ShownRow] = ()) -> bytes:
    """Write what a check found as one HTML page of at most 300 KB; the bytes depend on the arguments alone.

    Args:
        report: What was found.
        rows: Rows to show token by token; none where no model was named.
    """
    footer = f"Written by FINETUNE.EXE {__version__} from check report {report.digest()}."
    return fit(_DETAILS, lambda detail: _page(report, rows, detail, footer))


def _page(report: CheckReport, rows: Sequence[ShownRow], detail: _Detail, footer: str) -> bytes:
    evidence = "; ".join((report.format or "no format known", *report.format_evidence))
    sections = [section("Overview", _overview(report), _accounting(report))]
    sections.append(_findings(report, detail))
    sections += _charts(report, detail)
    if rows and detail.tokens.rows:
        sections.append(token_section(rows, detail.tokens))
    return document("Dataset check", data_text(evidence, 4 * detail.characters), sections, footer=footer)


def _overview(report: CheckReport) -> Markup:
    quality = report.quality
    if not report.records:
        return element("p", "There is no row to judge.")
    return tiles((
        ("Quality score", format_percent(quality.score), "of the rows have no error and no warning"),
        ("Sound", format_percent(quality.sound), "have no error, repeats apart"),
        ("Distinct", format_percent(quality.distinct), "repeat no other row"),
        ("Unsuspicious", format_percent(quality.unsuspicious), "have no warning"),
        ("Rows", format_count(report.records), "seen"),
        ("Loss masks", "proven" if report.masks_checked else "not looked at",
         "by two derivations" if report.masks_checked else "--model MODEL proves them too"),
    ))  # fmt: skip


def _accounting(report: CheckReport) -> Markup:
    bad = report.records - report.kept
    return element(
        "p", f"{format_count(report.records)} rows seen = {format_count(report.kept)} without an error + "
        f"{format_count(bad)} with at least one.",
    )  # fmt: skip


def _findings(report: CheckReport, detail: _Detail) -> Markup:
    if not report.findings:
        return section("Findings", element("p", "Nothing is wrong with these rows."))
    shown = report.findings[: detail.findings]
    kinds = Counter(finding.severity for finding in report.findings)
    counted = ", ".join(f"{format_count(kinds[name])} of severity {name}" for name in ("error", "warning", "info"))
    cells: list[list[Child]] = [
        [data_text(finding.code, detail.characters), severity_name(finding.severity), count_words(finding),
         _share(finding, report.records), data_text(finding.message, detail.characters),
         data_text(finding.fix, detail.characters)]
        for finding in shown
    ]  # fmt: skip
    parts: list[Child] = [
        table(f"{format_count(len(report.findings))} kinds of fault: {counted}",
              ("Code", "Severity", "Rows", "Share", "What is wrong", "Fix"), cells, numbers=(2, 3)),
    ]  # fmt: skip
    if len(shown) < len(report.findings):
        more = format_count(len(report.findings) - len(shown))
        parts.append(element("p", f"{more} more are left out here; --json shows all."))
    parts.append(element("h3", "Where, and what it looks like"))
    parts += [_details(finding, detail) for finding in shown]
    return section("Findings", *parts)


def _share(finding: CheckFinding, records: int) -> str:
    rows = sum(row.split == "train" for row in finding.rows)
    return format_percent(rows / records) if rows and records else ""


def _details(finding: CheckFinding, detail: _Detail) -> Markup:
    """Fold up the places of a finding, those with an extract first, and what the first of them look like."""
    places = sorted(finding.rows, key=lambda row: not row.extract)[: detail.places]
    where = [element("li", *_place(row, detail, quoted=number < detail.extracts)) for number, row in enumerate(places)]
    if not finding.rows and finding.source is not None:
        where = [element("li", data_text(finding.source, detail.characters))]
    more = len(finding.rows) - len(places)
    if more > 0:
        where.append(element("li", f"and {format_count(more)} more"))
    code = data_text(finding.code, detail.characters)
    summary = element("summary", severity_name(finding.severity), " ", code, f" ({count_words(finding)})")
    return element("details", summary, element("ul", *where))


def _place(row: FindingRow, detail: _Detail, *, quoted: bool) -> list[Child]:
    other = other_place(row)
    shown: list[Child] = [data_text(row.source, detail.characters)]
    if other is not None:
        shown += [" (with ", data_text(other, detail.characters), ")"]
    if quoted and row.extract:
        shown.append(element("pre", data_text(row.extract, detail.characters)))
    return shown


def _charts(report: CheckReport, detail: _Detail) -> list[Markup]:
    charts = []
    if report.characters is not None:
        figure = histogram_figure(
            "characters", report.characters, unit="characters", caption="Rows by length in characters"
        )
        charts.append(section("Length of the rows", figure))
    if report.labels:
        charts.append(section("Labels", labels_table(report.labels)))
    return charts
