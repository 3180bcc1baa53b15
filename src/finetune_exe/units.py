"""How numbers are written for people."""

from __future__ import annotations

GIB = 1 << 30
MIB = 1 << 20


def format_gib(num_bytes: float) -> str:
    """Write a size in GiB with as many digits as are meant: 0.84, 3.2, 41."""
    return f"{_three(num_bytes / GIB)} GiB"


def format_bytes(num_bytes: float) -> str:
    """Write a size in the unit that suits it: 512 bytes, 1.4 KiB, 3.20 MiB, 41 GiB."""
    for limit, unit in ((GIB, "GiB"), (MIB, "MiB"), (1 << 10, "KiB")):
        if num_bytes >= limit:
            return f"{_three(num_bytes / limit)} {unit}"
    return f"{num_bytes:.0f} bytes"


def format_duration(seconds: float) -> str:
    """Write a duration in its natural unit: 42 s, 4 min 10 s, 3 h 05 min, 2.5 days."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole / 86400:.1f} days"


def format_usd(dollars: float) -> str:
    """Write an amount of money with its cents: $1,234.50."""
    return f"${dollars:,.2f}"


def format_count(count: float) -> str:
    """Write a count with thousands separated: 12,345."""
    return f"{round(count):,}"


def format_parameters(count: float) -> str:
    """Write a number of parameters as the field does: 134.5M, 8.03B."""
    for limit, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= limit:
            return f"{_three(count / limit)}{suffix}"
    return str(round(count))


def format_number(value: float) -> str:
    """Write a setting the way a person would type it: 2e-4, 0.03, 16."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def format_percent(share: float) -> str:
    """Write a share of one as a percentage with one decimal: 12.5 %."""
    return f"{100 * share:.1f} %"


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
