"""An evaluation as one page: verdict, differences with their intervals drawn, what was measured, samples, readiness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from finetune_exe import __version__
from finetune_exe.domain.evaluation import Comparison, Evaluation
from finetune_exe.domain.values import Check
from finetune_exe.report.comparison import SHORT_VERDICTS
from finetune_exe.report.evaluation import SMALLEST, bases, generation_words, made_from, verdict_words
from finetune_exe.report.html.charts import WHOLE, at, strip
from finetune_exe.report.html.document import document, fit, section, table, tiles
from finetune_exe.report.html.markup import Child, Markup, data_text, element
from finetune_exe.report.measured import measured_blocks
from finetune_exe.report.numbers import format_ends, format_level, format_measure, format_p
from finetune_exe.report.page import Bullet, Field, Heading, Table, Words
from finetune_exe.units import format_count, format_duration, format_percent

MOST_UNITS = 12
"""How far the drawing of differences may reach, in units of the smallest that could be found."""
LEAST = 5
"""Width of the shortest interval drawn, and half that of the mark of a difference, in thousandths."""
_FINAL = {"ready": "Ready", "not ready": "Not ready", "cannot say": "Cannot say"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Detail:
    characters: int
    samples: int


_DETAILS = tuple(_Detail(characters=c, samples=s) for c, s in ((4_000, 50), (1_500, 20), (400, 5), (120, 0)))


def evaluation_page(evaluation: Evaluation) -> bytes:
    """Write an evaluation as one HTML page of at most 300 KB; the bytes depend on it alone."""
    footer = f"Written by FINETUNE.EXE {__version__} from evaluation {evaluation.digest()}."
    return fit(_DETAILS, lambda detail: _page(evaluation, detail, footer))


def _page(evaluation: Evaluation, detail: _Detail, footer: str) -> bytes:
    comparisons = (*evaluation.comparisons, *evaluation.task_comparisons)
    limit = min(600, detail.characters)
    first = [verdict_words(evaluation), *(f"{field.label}: {field.value}" for field in made_from(evaluation))]
    sections = [section("Verdict", _overview(evaluation), *(element("p", data_text(words, limit)) for words in first))]
    if comparisons:
        said = [element("p", data_text(words, limit)) for words in (SMALLEST, *bases(comparisons))]
        notes = [element("p", data_text(note, limit)) for note in evaluation.comparison_notes]
        figure, answers = interval_table(comparisons), generation_words(evaluation.generation)
        rest = [] if answers is None else [element("p", answers)]
        sections.append(section("Base against tuned", figure, _comparisons(comparisons), *said, *notes, *rest))
    sections += _measured(evaluation, detail)
    if evaluation.samples and detail.samples:
        sections.append(section("Answers side by side", *_samples(evaluation, detail)))
    sections.append(section("Readiness", _readiness(evaluation.readiness, detail)))
    lead = data_text(f"{evaluation.baseline} against {evaluation.candidate}", 300)
    return document("Evaluation", lead, sections, footer=footer)


def _overview(evaluation: Evaluation) -> Markup:
    share = evaluation.readiness_share
    decided = sum(check.passed is not None for check in evaluation.readiness)
    failed = sum(check.passed is False for check in evaluation.readiness)
    return tiles((
        ("Verdict", _FINAL[evaluation.verdict], f"points that failed: {failed}"),
        ("Readiness", "n/a" if share is None else format_percent(share),
         f"of {decided} points decided; open: {len(evaluation.readiness) - decided}"),
        ("Test rows", format_count(evaluation.num_rows), f"in {format_count(evaluation.num_clusters)} clusters"),
        ("Measured in", format_duration(evaluation.seconds), "base and tuned model"),
    ))  # fmt: skip


class _Span(NamedTuple):
    """A difference in units of the smallest that could be found, better above zero."""

    low: float
    difference: float
    high: float


def _span(comparison: Comparison) -> _Span | None:
    unit = comparison.minimum_detectable_difference
    if not unit or comparison.ci_low is None or comparison.ci_high is None:
        return None
    unit = unit if comparison.higher_is_better else -unit
    low, high = sorted((comparison.ci_low / unit, comparison.ci_high / unit))
    return _Span(low, comparison.difference / unit, high)


def interval_table(comparisons: Sequence[Comparison]) -> Markup:
    """Draw each difference with its interval, better to the right, in units of the smallest difference found."""
    spans = [_span(comparison) for comparison in comparisons]
    farthest = max((max(-span.low, span.high) for span in spans if span is not None), default=0.0)
    limit = min(MOST_UNITS, max(2, 2 * math.ceil(farthest / 2)))
    rows: list[list[Child]] = [
        [data_text(comparison.metric, 60), "no interval" if span is None else _drawn(comparison, span, limit),
         SHORT_VERDICTS[comparison.verdict]]
        for comparison, span in zip(comparisons, spans, strict=True)
    ]  # fmt: skip
    scale = strip(
        element("text", "worse", x=0, y=22), element("text", "0", x="50%", y=22, text_anchor="middle"),
        element("text", "better", x="100%", y=22, text_anchor="end"),
    )  # fmt: skip
    caption = (
        "Differences with their intervals, in units of the smallest that each metric could find (MDE): faint lines at "
        f"1 MDE, edges at {limit}; an arrow says that an interval goes on"
    )
    drawn = element("span", "Drawn", class_="unseen")
    return table(caption, ("Metric", element("span", drawn, scale), "Verdict"), rows)


def _drawn(comparison: Comparison, span: _Span, limit: int) -> Markup:
    def place(units: float) -> int:
        return round(WHOLE * (max(-limit, min(limit, units)) + limit) / (2 * limit))

    style = {"improved": "good", "regressed": "error"}.get(comparison.verdict, "bar")
    drawn = [element("line", x1=at(place(units)), y1=0, x2=at(place(units)), y2="100%", class_=line)
             for units, line in ((-1, "axis"), (0, "zero"), (1, "axis"))]  # fmt: skip
    width = max(LEAST, place(span.high) - place(span.low))
    drawn.append(element("rect", x=at(place(span.low)), y="42%", width=at(width), height="16%", class_=style))
    if abs(span.difference) < limit:
        left = at(max(0, place(span.difference) - LEAST))
        drawn.append(element("rect", x=left, y="25%", width=at(2 * LEAST), height="50%", class_=style))
    if span.low < -limit:
        drawn.append(element("text", "\u25c0", x=0, y=22, class_=style))
    if span.high > limit:
        drawn.append(element("text", "\u25b6", x="100%", y=22, text_anchor="end", class_=style))
    return strip(*drawn)


def _comparisons(comparisons: Sequence[Comparison]) -> Markup:
    """Write the figures beside the verdicts, which a narrow window still shows."""
    rows: list[list[Child]] = [
        [comparison.metric, SHORT_VERDICTS[comparison.verdict],
         format_measure(comparison.baseline), format_measure(comparison.candidate),
         f"{comparison.difference:+.4g}", format_ends(comparison.ci_low, comparison.ci_high), _relative(comparison),
         format_p(comparison.p_value), format_measure(comparison.minimum_detectable_difference)]
        for comparison in comparisons
    ]  # fmt: skip
    level = format_level(comparisons[0].confidence_level)
    header = ("Metric", "Verdict", "Base", "Tuned", "Difference", f"{level} interval", "In percent", "p", "MDE")
    return table("Paired comparisons on the held-out rows", header, rows, numbers=(2, 3, 4, 5, 6, 7, 8))


def _relative(comparison: Comparison) -> str:
    """Write a difference relative to the base with its interval, where that says more."""
    if comparison.relative is None:
        return ""
    if comparison.relative_ci_low is None or comparison.relative_ci_high is None:
        return f"{100 * comparison.relative:+.1f}"
    ends = f"{100 * comparison.relative_ci_low:+.1f} to {100 * comparison.relative_ci_high:+.1f}"
    return f"{100 * comparison.relative:+.1f} ({ends})"


def _measured(evaluation: Evaluation, detail: _Detail) -> list[Markup]:
    """Give the blocks of the written report as sections."""
    sections: list[Markup] = []
    heading = ""
    parts: list[Child] = []
    for block in (*measured_blocks(evaluation), Heading("")):
        match block:
            case Heading(text):
                if parts:
                    sections.append(section(heading.capitalize(), *parts))
                heading, parts = text, []
            case Table(header=header, rows=rows):
                cells: list[list[Child]] = [[data_text(cell, detail.characters) for cell in row] for row in rows]
                caption = f"{heading.capitalize()}: base beside tuned"
                parts.append(table(caption, header, cells, numbers=range(1, len(header))))
            case Field(label, value):
                parts.append(element("p", element("strong", label), ": ", data_text(value, detail.characters)))
            case Words(text) | Bullet(text):
                parts.append(element("p", data_text(text, detail.characters)))
            case _:
                continue
    return sections


def _samples(evaluation: Evaluation, detail: _Detail) -> list[Markup]:
    def quoted(name: str, text: str) -> Markup:
        return element("div", element("h3", name), element("pre", data_text(text, detail.characters)))

    return [
        element(
            "details", element("summary", data_text(sample.source, 200)), quoted("Prompt", sample.prompt),
            element("div", quoted("Reference", sample.reference), quoted("Base", sample.baseline),
                    quoted("Tuned", sample.candidate), class_="sides"),
        )
        for sample in evaluation.samples[: detail.samples]
    ]  # fmt: skip


def _readiness(checks: Sequence[Check], detail: _Detail) -> Markup:
    rows: list[list[Child]] = [
        [data_text(check.name, min(200, detail.characters)), _mark(check), data_text(check.detail, detail.characters),
         data_text(check.fix or "", detail.characters) if check.passed is not True else ""]
        for check in checks
    ]  # fmt: skip
    return table(
        "What must hold before the model is used",
        ("Point", "Result", "Seen", "What would turn it green, or decide it"),
        rows,
    )


def _mark(check: Check) -> Markup:
    word, style = {True: ("pass", "good"), False: ("FAIL", "error"), None: ("open", "soft")}[check.passed]
    return element("span", word, class_=style)
