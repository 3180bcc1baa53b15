"""Bars as SVG, with the numbers behind them as a table; whole numbers only, so that the bytes are always the same."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from finetune_exe.domain.dataset import Histogram, LabelCount
from finetune_exe.report.html.document import table
from finetune_exe.report.html.markup import Markup, data_text, element
from finetune_exe.units import format_count

WIDTH, HEIGHT = 720, 200
_LEFT, _TOP, _BOTTOM = 8, 24, 28
_LEAST_BAR = 2
"""Height of a bar that is not empty, however few it counts."""
BAR_NAME_CHARACTERS = 28
LABELS_SHOWN = 24
OTHER_LABELS = "(all others)"


def histogram_figure(name: str, histogram: Histogram, *, unit: str, caption: str) -> Markup:
    """Draw a histogram.

    Args:
        name: Its id in the page.
        histogram: The counts.
        unit: What the lengths count.
        caption: What it shows.
    """
    counts, edges = histogram.counts, histogram.edges
    step = (WIDTH - 2 * _LEFT) // len(counts)
    step = min(step, 80)
    floor = HEIGHT - _BOTTOM
    most = max(counts) or 1
    drawn: list[Markup] = []
    for number, count in enumerate(counts):
        left, height = _LEFT + number * step, _scaled(count, most, floor - _TOP)
        if count:
            drawn.append(element("rect", x=left + 1, y=floor - height, width=step - 2, height=height, class_="bar"))
        if count and step >= 30:
            drawn.append(element("text", _short(count), x=left + step // 2, y=floor - height - 5, text_anchor="middle"))
    every = max(1, -(-34 // step))
    drawn += [
        element(
            "text", _short(edge), x=_LEFT + number * step, y=HEIGHT - 9, text_anchor="middle" if number else "start"
        )
        for number, edge in enumerate(edges)
        if number % every == 0
    ]
    line = element("line", x1=_LEFT, y1=floor, x2=_LEFT + step * len(counts), y2=floor, class_="axis")
    peak = max(range(len(counts)), key=lambda number: counts[number])
    says = (
        f"{format_count(sum(counts))} counted, most of them, {format_count(counts[peak])}, "
        f"between {format_count(edges[peak])} and {format_count(edges[peak + 1])} {unit}"
    )
    rows = [(f"{format_count(low)} to {format_count(high - 1)}", format_count(count))
            for (low, high), count in zip(pairwise(edges), counts, strict=True)]  # fmt: skip
    return _figure(name, caption, says, [line, *drawn], HEIGHT, (unit.capitalize(), "Count"), rows)


def bars_figure(name: str, bars: Sequence[tuple[str, int]], *, header: tuple[str, str], caption: str) -> Markup:
    """Draw one bar for each name, one under the other.

    Args:
        name: Its id in the page.
        bars: Names and counts.
        header: What the names and the counts are.
        caption: What it shows.
    """
    most = max(count for _, count in bars) or 1
    total = sum(count for _, count in bars) or 1
    start, room = 230, WIDTH - 230 - 130
    drawn: list[Markup] = []
    for number, (label, count) in enumerate(bars):
        top = 4 + number * 24
        width = _scaled(count, most, room)
        share = f"{format_count(count)} ({100 * count / total:.1f} %)"
        drawn += [
            element("text", _label(label), x=start - 8, y=top + 15,
                    text_anchor="end"),
            element("rect", x=start, y=top + 2, width=width, height=17, class_="bar"),
            element("text", share, x=start + width + 6, y=top + 15),
        ]  # fmt: skip
    says = f"{len(bars)} bars, the first {format_count(bars[0][1])} of {format_count(total)}"
    rows = [(label, format_count(count)) for label, count in bars]
    return _figure(name, caption, says, drawn, 24 * len(bars) + 8, header, rows)


def labels_figure(labels: Sequence[LabelCount]) -> Markup:
    """Draw how many rows have each label, the rarest of very many as one bar."""
    bars = [(entry.label, entry.count) for entry in labels[:LABELS_SHOWN]]
    rest = sum(entry.count for entry in labels[LABELS_SHOWN:])
    bars += [(OTHER_LABELS, rest)] if rest else []
    caption = f"Rows by label, {format_count(len(labels))} labels as they are written"
    return bars_figure("labels", bars, header=("Label", "Rows"), caption=caption)


def _figure(
    name: str,
    caption: str,
    says: str,
    drawn: Sequence[Markup],
    height: int,
    header: tuple[str, str],
    rows: Sequence[tuple[str, str]],
) -> Markup:
    cells = [(data_text(label, 100), count) for label, count in rows]
    numbers = table(f"{caption}: the numbers", header, cells, numbers=(1,))
    return element(
        "figure",
        element("figcaption", caption),
        element("svg", element("title", caption, id=f"{name}-title"), element("desc", says, id=f"{name}-says"), *drawn,
                viewBox=f"0 0 {WIDTH} {height}", role="img", aria_labelledby=f"{name}-title {name}-says"),
        element("details", element("summary", "The numbers"), numbers),
    )  # fmt: skip


def _label(label: str) -> str:
    line = " ".join(label.split())
    return line if len(line) <= BAR_NAME_CHARACTERS else line[: BAR_NAME_CHARACTERS - 1] + "\u2026"


def _scaled(count: int, most: int, room: int) -> int:
    return max(_LEAST_BAR, count * room // most) if count else 0


def _short(number: int) -> str:
    """Write a count in at most four characters or so: 950, 12k, 3.4M."""
    for limit, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= limit:
            whole, tenth = divmod(number * 10 // limit, 10)
            return f"{whole}.{tenth}{suffix}" if whole < 100 and tenth else f"{whole}{suffix}"
    return str(number)
