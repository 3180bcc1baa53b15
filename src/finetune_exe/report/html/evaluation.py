"""An evaluation as one page: verdict, differences with their intervals drawn, what was measured, samples, readiness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune_exe import __version__
from finetune_exe.domain.evaluation import Comparison, Evaluation
from finetune_exe.domain.values import Check
from finetune_exe.report.comparison import SHORT_VERDICTS
from finetune_exe.report.evaluation import SMALLEST, bases, generation_words, made_from, verdict_words
from finetune_exe.report.html.document import document, fit, section, table, tiles
from finetune_exe.report.html.markup import Child, Markup, data_text, element
from finetune_exe.report.measured import measured_blocks
from finetune_exe.report.numbers import format_ends, format_level, format_measure, format_p
from finetune_exe.report.page import Bullet, Field, Heading, Table, Words
from finetune_exe.units import format_count, format_duration, format_percent

WIDTH, ROW, LEFT = 720, 26, 190
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
    first = [verdict_words(evaluation), *(f"{field.label}: {field.value}" for field in made_from(evaluation))]
    sections = [section("Verdict", _overview(evaluation), *(element("p", data_text(words, 600)) for words in first))]
    if comparisons:
        said = [element("p", data_text(words, 600)) for words in (SMALLEST, *bases(comparisons))]
        notes = [element("p", data_text(note, 600)) for note in evaluation.comparison_notes]
        figure, answers = interval_figure(comparisons), generation_words(evaluation.generation)
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


def interval_figure(comparisons: Sequence[Comparison]) -> Markup:
    """Draw each difference with its interval, better to the right, in units of the smallest difference found."""
    height = ROW * len(comparisons) + 40
    middle, half = LEFT + (WIDTH - LEFT) // 2, (WIDTH - LEFT) // 2 - 12
    parts: list[Markup] = [element("line", x1=middle, y1=8, x2=middle, y2=height - 28, class_="axis")]
    says = []
    for number, comparison in enumerate(comparisons):
        y = 20 + ROW * number
        sign = 1 if comparison.higher_is_better else -1
        unit = comparison.minimum_detectable_difference
        parts.append(element("text", comparison.metric[:26], x=0, y=y + 4))
        if unit is None or not unit or comparison.ci_low is None or comparison.ci_high is None:
            parts.append(element("text", "cannot be said", x=middle + 6, y=y + 4))
            says.append(f"{comparison.metric}: cannot be said")
            continue
        low, at, high = sorted(
            middle + round(half * max(-1.0, min(1.0, sign * value / (4 * unit))))
            for value in (comparison.ci_low, comparison.difference, comparison.ci_high)
        )
        parts.append(element("rect", x=low, y=y - 2, width=max(1, high - low), height=4, class_="bar"))
        parts.append(element("rect", x=at - 3, y=y - 6, width=6, height=12, class_="bar"))
        says.append(f"{comparison.metric}: {SHORT_VERDICTS[comparison.verdict]}")
    parts.append(element("text", "worse", x=LEFT, y=height - 8))
    parts.append(element("text", "better", x=WIDTH, y=height - 8, text_anchor="end"))
    svg = element("svg", element("title", "; ".join(says)), *parts, viewBox=f"0 0 {WIDTH} {height}", role="img")
    caption = element(
        "figcaption",
        "Differences with their intervals, in units of the smallest that each metric could find (MDE); the edges are "
        "four of these, and what lies beyond is drawn at the edge.",
    )
    return element("figure", svg, caption)


def _comparisons(comparisons: Sequence[Comparison]) -> Markup:
    rows: list[list[Child]] = [
        [comparison.metric, format_measure(comparison.baseline), format_measure(comparison.candidate),
         f"{comparison.difference:+.4g}", format_ends(comparison.ci_low, comparison.ci_high), _relative(comparison),
         format_p(comparison.p_value), format_measure(comparison.minimum_detectable_difference),
         SHORT_VERDICTS[comparison.verdict]]
        for comparison in comparisons
    ]  # fmt: skip
    level = format_level(comparisons[0].confidence_level)
    header = ("Metric", "Base", "Tuned", "Difference", f"{level} interval", "In percent", "p", "MDE", "Verdict")
    return table("Paired comparisons on the held-out rows", header, rows, numbers=(1, 2, 3, 4, 5, 6, 7))


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
                parts.append(table("Base beside tuned", header, cells, numbers=range(1, len(header))))
            case Field(label, value):
                parts.append(element("p", element("strong", label), ": ", data_text(value, detail.characters)))
            case Words(text) | Bullet(text):
                parts.append(element("p", data_text(text, detail.characters)))
            case _:
                continue
    return sections


def _samples(evaluation: Evaluation, detail: _Detail) -> list[Markup]:
    shown = []
    for sample in evaluation.samples[: detail.samples]:
        texts = (
            ("Prompt", sample.prompt),
            ("Reference", sample.reference),
            ("Base", sample.baseline),
            ("Tuned", sample.candidate),
        )
        parts: list[Child] = [element("summary", data_text(sample.source, 200))]
        for name, text in texts:
            parts += [element("h3", name), element("pre", data_text(text, detail.characters))]
        shown.append(element("details", *parts))
    return shown


def _readiness(checks: Sequence[Check], detail: _Detail) -> Markup:
    rows: list[list[Child]] = [
        [data_text(check.name, 200), _mark(check), data_text(check.detail, detail.characters),
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
