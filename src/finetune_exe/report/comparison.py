"""Two models on the same items: the verdict, the figures behind it, and the items that moved most."""

from __future__ import annotations

from typing import Any

from finetune_exe.domain.comparison import ForeseenComparison, LengthCorrected, PairedItem, PairedResult, PartComparison
from finetune_exe.domain.evaluation import FEWEST_FOR_VERDICT, Comparison
from finetune_exe.report.boxes import clean, shorten
from finetune_exe.report.numbers import UNKNOWN, format_ends, format_items, format_level, format_measure, format_p
from finetune_exe.report.page import Block, Bullet, Field, Heading, Table, Title, Words, render_text
from finetune_exe.units import format_count, format_percent

VERDICTS = {
    "improved": "● IMPROVED",
    "non_inferior": "● NO WORSE than the margin",
    "regressed": "○ REGRESSED",
    "inconclusive": "○ CANNOT SAY",
}
SHORT_VERDICTS = {
    "improved": "improved",
    "non_inferior": "no worse",
    "regressed": "worse",
    "inconclusive": "cannot say",
}
_CORPUS_NAMES = {"chrf": "chrF++", "bleu": "BLEU"}
"""Metrics of all answers together, which are no means."""
_TEXT_COLUMNS = 400


def comparison_contract(result: PairedResult) -> dict[str, Any]:
    """Give the comparison as the keys that other programs rely on, with the rest beside them."""
    comparison = result.comparison
    known = comparison.ci_low is not None and comparison.ci_high is not None
    interval = [comparison.ci_low, comparison.ci_high] if known else None
    rest = result.model_dump(mode="json", by_alias=True, exclude={"comparison"})
    return {
        "n": comparison.n,
        "clusters": comparison.clusters,
        "mean_a": comparison.baseline,
        "mean_b": comparison.candidate,
        "difference": comparison.difference,
        "standard_error": comparison.standard_error,
        "interval": interval,
        "confidence_level": comparison.confidence_level,
        "ci95": interval if comparison.confidence_level == 0.95 else None,
        "p_value": comparison.p_value,
        "test": comparison.test,
        "minimum_detectable_difference": comparison.minimum_detectable_difference,
        "verdict": comparison.verdict,
        "margin": comparison.margin,
        "metric": comparison.metric,
        "higher_is_better": comparison.higher_is_better,
        **rest,
    }


def render_comparison(result: PairedResult) -> str:
    """Write a comparison for the terminal."""
    return render_text(_page(result))


def render_foresight(foreseen: ForeseenComparison) -> str:
    """Write what a comparison on these items could find."""
    rows = tuple((entry.assumption, _foreseen(entry.difference)) for entry in foreseen.detectable)
    return render_text([
        Title("WHAT A COMPARISON COULD FIND", (
            Field("Items", format_items(foreseen.n, foreseen.clusters)),
            Field("Mean of A", format_measure(foreseen.mean_a)),
        )),
        Table(header=("If", "Smallest difference found"), rows=rows),
        Words(
            f"Found four times in five, with intervals of {format_level(foreseen.confidence_level)}. A smaller true "
            "difference will mostly end in: cannot say."
        ),
    ])  # fmt: skip


def _foreseen(difference: float | None) -> str:
    return "none: too few items" if difference is None else format_measure(difference)


def _page(result: PairedResult) -> list[Block]:
    comparison = result.comparison
    return [
        Title("COMPARISON", (
            Field("A", result.a),
            Field("B", result.b),
            Field("Items in both", format_items(comparison.n, comparison.clusters)),
        )),
        Heading("VERDICT"), Words(f"B against A: {VERDICTS[comparison.verdict]}"), Words(explain_verdict(comparison)),
        *_needed(result),
        Heading("FIGURES"), *figures(comparison, result.margin_reason),
        *_length(result.length, comparison.confidence_level),
        *_parts("SUITES", result.suites), *_parts("SLICES", result.slices),
        *_extremes("WORST REGRESSIONS", result.worst), *_extremes("LARGEST GAINS", result.best),
        *_notes(result.notes),
    ]  # fmt: skip


def explain_verdict(comparison: Comparison) -> str:
    """Say in words what the verdict rests on."""
    margin, detectable = format_measure(comparison.margin), comparison.minimum_detectable_difference
    match comparison.verdict:
        case "improved":
            says = "The difference is better than chance explains: its whole interval is on the good side of zero."
            return says if comparison.better_enough else f"{says} It is smaller than the margin, {margin}."
        case "non_inferior":
            return f"A loss of more than the margin, {margin}, is ruled out; a gain is not shown."
        case "regressed":
            return f"B is worse than chance explains, and by more than the margin, {margin}."
        case "inconclusive" if detectable is None:
            return "These items show no spread that a test could rest on."
        case "inconclusive" if comparison.clusters < FEWEST_FOR_VERDICT:
            return f"Fewer than {FEWEST_FOR_VERDICT} clusters decide nothing, whatever their figures are."
        case _:
            return (
                f"Neither a gain nor a loss of {margin} is shown or ruled out. These items find differences of "
                f"{format_measure(detectable)} and more four times in five."
            )


def _needed(result: PairedResult) -> list[Block]:
    needed, comparison = result.items_needed, result.comparison
    if needed is None:
        return []
    clusters = round(needed / comparison.n * comparison.clusters)
    more = "" if comparison.clusters == comparison.n else f", in {format_count(clusters)} clusters such as these"
    return [Words(f"To find a difference of the margin: about {format_count(needed)} items{more}.")]


def difference_cell(comparison: Comparison) -> str:
    """Write the difference over its interval, and both again relative to the base where that says more."""
    lines = [f"{comparison.difference:+.4g}"]
    if comparison.ci_low is not None and comparison.ci_high is not None:
        lines.append(f"[{comparison.ci_low:+.4g}, {comparison.ci_high:+.4g}]")
    if comparison.relative is not None:
        lines.append(f"{100 * comparison.relative:+.1f} %")
    if comparison.relative_ci_low is not None and comparison.relative_ci_high is not None:
        lines.append(f"[{100 * comparison.relative_ci_low:+.1f}, {100 * comparison.relative_ci_high:+.1f}] %")
    return "\n".join(lines)


def figures(comparison: Comparison, margin_reason: str) -> list[Block]:
    """Write all figures of one comparison."""
    figure = _CORPUS_NAMES.get(comparison.metric, "Mean")
    return [
        Field(f"{figure} of A", format_measure(comparison.baseline)),
        Field(f"{figure} of B", format_measure(comparison.candidate)),
        Field("Difference", f"{comparison.difference:+.4g}"),
        Field(
            f"{format_level(comparison.confidence_level)} interval", format_ends(comparison.ci_low, comparison.ci_high)
        ),
        Field("Standard error", format_measure(comparison.standard_error)),
        Field("p", format_p(comparison.p_value)),
        Field("Test", UNKNOWN if comparison.p_value is None else comparison.test),
        Field("Smallest difference found", format_measure(comparison.minimum_detectable_difference)),
        Field("Margin", f"{format_measure(comparison.margin)} ({margin_reason})"),
        Field("Better is", "higher" if comparison.higher_is_better else "lower"),
    ]


def _length(length: LengthCorrected | None, level: float) -> list[Block]:
    if length is None:
        return []
    return [
        Heading("LENGTH"),
        Field("B wins", format_percent(length.win_rate)),
        Field("B wins at equal length", f"{format_percent(length.corrected)} "
              f"({format_level(level)} interval: {format_percent(length.ci_low)} to {format_percent(length.ci_high)})"),
        Field("Mean length", f"A {format_count(length.mean_length_a)}, B {format_count(length.mean_length_b)}"),
    ]  # fmt: skip


def _parts(title: str, parts: tuple[PartComparison, ...]) -> list[Block]:
    if not parts:
        return []
    rows = tuple(
        (
            shorten(clean(part.name), 24), format_count(part.comparison.n), format_measure(part.comparison.baseline),
            format_measure(part.comparison.candidate), difference_cell(part.comparison), format_p(part.p_adjusted),
            format_measure(part.comparison.minimum_detectable_difference), SHORT_VERDICTS[part.verdict],
        )
        for part in parts
    )  # fmt: skip
    return [
        Heading(title),
        Table(header=("Part", "Items", "A", "B", "B - A", "p", "MDE", "Verdict"), rows=rows),
        Words(f"p values are raised by Holm's method for {len(parts)} comparisons; intervals are of each alone."),
        Words("MDE is the smallest difference that would be found four times in five."),
    ]


def _notes(notes: tuple[str, ...]) -> list[Block]:
    return [Heading("NOTES"), *(Bullet(note) for note in notes)] if notes else []


def _extremes(title: str, items: tuple[PairedItem, ...]) -> list[Block]:
    if not items:
        return []
    blocks: list[Block] = [Heading(title)]
    for item in items:
        blocks.append(Bullet(f"{item.item}: {format_measure(item.score_a)} to {format_measure(item.score_b)}"))
        texts = (("Prompt", item.prompt), ("Reference", item.reference), ("A", item.answer_a), ("B", item.answer_b))
        blocks += [Field(name, shorten(clean(text), _TEXT_COLUMNS)) for name, text in texts if text is not None]
    return blocks
