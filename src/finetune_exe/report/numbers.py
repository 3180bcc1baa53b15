"""How settings, quantities and intervals are written in reports."""

from __future__ import annotations

from finetune_exe.domain.values import Interval, Leaf
from finetune_exe.report.boxes import NO_BREAK
from finetune_exe.units import format_count, format_duration, format_gib, format_number, format_usd

UNKNOWN = "n/a"


def format_setting(value: Leaf) -> str:
    """Write the value of a plan's leaf: yes, no, off, 2e-4, or the words of a list."""
    match value:
        case None:
            return "off"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return format_number(value)
        case str():
            return value
        case _:
            return ", ".join(map(format_setting, value)) or "none"


def format_quantity(value: float, unit: str) -> str:
    """Write a measurement in the natural form of its unit; an unknown unit is written behind the number."""
    match unit:
        case "bytes":
            return format_gib(value)
        case "seconds":
            return format_duration(value)
        case "usd":
            return format_usd(value)
        case "tokens_per_second":
            return f"{format_count(value)} tokens/s"
        case _:
            return f"{format_number(value)} {unit}".rstrip()


def format_interval(interval: Interval, unit: str, *, remark: str = "") -> str:
    """Write the middle and, in brackets, the bounds, the common unit said once: 1.90 GiB (1.60 to 2.40)."""
    mid, low, high = (format_quantity(value, unit) for value in (interval.mid, interval.low, interval.high))
    suffix = mid[mid.rfind(" ") :]
    if unit not in ("seconds", "usd") and low.endswith(suffix) and high.endswith(suffix):
        low, high = low.removesuffix(suffix), high.removesuffix(suffix)
    mid, low, high = (text.replace(" ", NO_BREAK) for text in (mid, low, high))
    return f"{mid} ({low} to {high}{'; ' + remark if remark else ''})"


def format_items(items: int, clusters: int) -> str:
    """Write a number of items, and in how many clusters they come: 12 in 3 clusters, or 12, each alone."""
    if 1 < items == clusters:
        return f"{format_count(items)}, each alone"
    return f"{format_count(items)} in {format_count(clusters)} {'cluster' if clusters == 1 else 'clusters'}"


def format_measure(value: float | None) -> str:
    """Write a metric with four digits; what could not be computed is n/a."""
    return UNKNOWN if value is None else f"{value:.4g}"


def format_ends(low: float | None, high: float | None) -> str:
    """Write the interval of a difference: +0.01 to +0.2."""
    return UNKNOWN if low is None or high is None else f"{low:+.4g} to {high:+.4g}"


def format_level(level: float) -> str:
    """Write a confidence level as it may be quoted: 95 %, or 99.9 %."""
    return f"{100 * level:g}{NO_BREAK}%"


def format_p(value: float | None) -> str:
    """Write a p-value as it may be quoted: 0.032, or <0.001."""
    return UNKNOWN if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"
