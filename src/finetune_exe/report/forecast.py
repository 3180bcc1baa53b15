"""What more rows would bring, to read."""

from __future__ import annotations

from finetune_exe.domain.forecast import LossForecast
from finetune_exe.domain.values import Interval
from finetune_exe.report.page import Field, Heading, Table, Title, Words, render_text
from finetune_exe.units import format_count


def render_forecast(forecast: LossForecast) -> str:
    """Write the forecast, what it rests on, and the curve."""
    change, more = forecast.change, format_count(forecast.more_rows)
    half = (change.high - change.low) / 2
    title = Title("LEARNING CURVE", (
        Field("Forecast", f"{more} more rows: {change.mid:+.3f} +- {half:.3f} of validation loss"),
        Field("Loss there", f"{_nats(forecast.loss)} nats a token, nine times in ten"),
    ))  # fmt: skip
    rows = tuple((format_count(point.rows), f"{point.loss:.4f}") for point in forecast.points)
    words = (
        f"L = A * D^-b + E with b {_nats(forecast.exponent)} and E {_nats(forecast.floor)}: with any number of such "
        f"rows the loss stays above E. Losses are scaled to the validation rows of the largest run. "
        f"Source: {forecast.source}"
    )
    return render_text([title, Heading("RUNS"), Table(header=("Rows", "Loss"), rows=rows), Words(words)])


def _nats(value: Interval) -> str:
    return f"{value.mid:.3f} ({value.low:.3f} to {value.high:.3f})"
