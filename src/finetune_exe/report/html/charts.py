"""Drawings as SVG, with the numbers behind them as tables.

Places are shares of the width, so that letters are as large on a small screen as on a large one; they are whole
thousandths, so that the bytes are always the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from finetune_exe.domain.dataset import Histogram, LabelCount
from finetune_exe.report.html.document import table
from finetune_exe.report.html.markup import Markup, data_text, element
from finetune_exe.units import format_count, format_percent

HEIGHT = 200
"""Of a histogram, in pixels."""
WHOLE = 1000
"""The width of every drawing, in thousandths of it."""
_TOP, _BOTTOM = 24, 28
_GAP = 2
"""Left free on each side of a bar, in thousandths."""
_WIDEST = 110
"""Of a bar of a histogram, in thousandths."""
_LEAST_BAR = 2
"""Pixels of height, or thousandths of length, of a bar that is not empty, however few it counts."""
_FEW = 10
"""Bars with room for a number over each on a small screen."""
LABELS_SHOWN = 24


def at(thousandths: int) -> str:
    """Write a place or a length of a drawing as a share of its width."""
    return f"{thousandths // 10}.{thousandths % 10}%"


def strip(*drawn: Markup) -> Markup:
    """Make the drawing in a cell of a table; what it shows must stand beside it in words or numbers."""
    return element("svg", *drawn, class_="strip", aria_hidden="true")


def histogram_figure(name: str, histogram: Histogram, *, unit: str, caption: str) -> Markup:
    """Draw a histogram.

    Args:
        name: Its id in the page.
        histogram: The counts.
        unit: What the lengths count.
        caption: What it shows.
    """
    counts, edges = histogram.counts, histogram.edges
    step = min(WHOLE // len(counts), _WIDEST)
    floor, most = HEIGHT - _BOTTOM, max(counts) or 1
    few = "few" if len(counts) <= _FEW else "many"
    drawn: list[Markup] = [element("line", x1=0, y1=floor, x2=at(step * len(counts)), y2=floor, class_="axis")]
    for number, count in enumerate(counts):
        left, height = number * step, _scaled(count, most, floor - _TOP)
        if count:
            drawn += [
                element("rect", x=at(left + _GAP), y=floor - height, width=at(step - 2 * _GAP), height=height,
                        class_="bar"),
                element("text", _short(count), x=at(left + step // 2), y=floor - height - 5, text_anchor="middle",
                        class_=few),
            ]  # fmt: skip
    every = -(-len(counts) // _FEW)
    drawn += [
        element("text", _short(edge), x=at(number * step), y=HEIGHT - 9, text_anchor=_anchor(number * step))
        for number, edge in enumerate(edges)
        if number % every == 0
    ]
    peak = max(range(len(counts)), key=lambda number: counts[number])
    says = (
        f"{format_count(sum(counts))} counted, most of them, {format_count(counts[peak])}, "
        f"between {format_count(edges[peak])} and {format_count(edges[peak + 1])} {unit}"
    )
    rows = [(f"{format_count(low)} to {format_count(high - 1)}", format_count(count))
            for (low, high), count in zip(pairwise(edges), counts, strict=True)]  # fmt: skip
    numbers = table(f"{caption}: the numbers", (unit.capitalize(), "Count"), rows, numbers=(1,))
    return element(
        "figure",
        element("figcaption", caption),
        element("svg", element("title", caption, id=f"{name}-title"), element("desc", says, id=f"{name}-says"), *drawn,
                height=HEIGHT, role="img", aria_labelledby=f"{name}-title {name}-says"),
        element("details", element("summary", "The numbers"), numbers),
    )  # fmt: skip


def labels_table(labels: Sequence[LabelCount]) -> Markup:
    """Show how many rows have each label, with a bar each; the rarest of very many as one line without one."""
    total, most = sum(entry.count for entry in labels) or 1, max(entry.count for entry in labels) or 1
    rows: list[tuple[Markup | str, ...]] = [
        (data_text(entry.label, 100), format_count(entry.count), format_percent(entry.count / total),
         strip(element("rect", x=0, y="25%", width=at(_scaled(entry.count, most, WHOLE)), height="50%", class_="bar")))
        for entry in labels[:LABELS_SHOWN]
    ]  # fmt: skip
    rest = labels[LABELS_SHOWN:]
    if rest:
        count = sum(entry.count for entry in rest)
        rows.append((f"({format_count(len(rest))} more)", format_count(count), format_percent(count / total), ""))
    caption = f"Rows by label, {format_count(len(labels))} labels as they are written"
    return table(caption, ("Label", "Rows", "Share", "Drawn"), rows, numbers=(1, 2))


def _anchor(thousandths: int) -> str:
    """Keep a number at the edge of a drawing inside it."""
    return "start" if thousandths == 0 else "end" if thousandths > WHOLE - 20 else "middle"


def _scaled(count: int, most: int, room: int) -> int:
    return max(_LEAST_BAR, count * room // most) if count else 0


def _short(number: int) -> str:
    """Write a count in at most four characters or so: 950, 12k, 3.4M."""
    for limit, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= limit:
            whole, tenth = divmod(number * 10 // limit, 10)
            return f"{whole}.{tenth}{suffix}" if whole < 100 and tenth else f"{whole}{suffix}"
    return str(number)
