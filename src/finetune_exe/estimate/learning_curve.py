"""What more rows would bring, read off the losses of runs on fewer rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from finetune_exe.domain.forecast import CurvePoint, LossForecast
from finetune_exe.domain.values import Interval
from finetune_exe.errors import FineTuneError

SOURCE = "L = A * D^-b + E, Zhang et al., arXiv 2402.17193 (2024)"
MIN_SIZES, MIN_SPREAD, MAX_REACH = 3, 2.0, 8.0
"""Different row counts needed; how many times the fewest the most must be; to how many times the most one may ask."""
SEED_ERROR, ROW_SPREAD = 0.005, 0.3
"""Usual error of a loss by its seed, and of one validation row's change in training; as shares of it. Inferred."""
_NOISE_WEIGHT = 4.0
"""How many points' worth the usual errors count beside the points' own scatter."""
_EXPONENTS = tuple(0.05 * 1.15**step for step in range(25))
"""Exponents b looked at, evenly in their logarithm: 0.05 to 1.4; wide, since they depend on task and method."""
_STEPS = tuple(0.75 * step for step in range(-8, 9))
"""Errors looked at for the first and the last loss, in usual errors."""
_SHARES = (0.05, 0.5, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """One curve that the points allow."""

    weight: float
    """How well it agrees with them; the scale is free."""
    exponent: float
    floor: float
    loss: float
    """At the row count asked about."""
    change: float
    """Of the loss, from the most rows there are to those asked about."""


def error_of_loss(validation_rows: int) -> float:
    """Give the usual error of a loss measured on so many rows, as a share of it."""
    return math.hypot(SEED_ERROR, ROW_SPREAD / math.sqrt(validation_rows))


def forecast_loss(points: Sequence[CurvePoint], *, more_rows: int) -> LossForecast:
    """Forecast the validation loss with more rows.

    All curves near the points are weighed by how well they agree with them, under a Student t likelihood whose scale
    is the points' own scatter and their usual errors together; beforehand none is preferred, the exponent being even in
    its logarithm. Curves that rise are allowed, so that three points of noise promise nothing.

    Args:
        points: Rows and validation loss of runs that are alike but for the rows; the losses on rows that are alike.
        more_rows: Training rows beyond the most of any point.

    Raises:
        FineTuneError: E02 where the points are too few, too close or too noisy to tell, or too far is asked.

    Source: Zhang et al., arXiv 2402.17193 (2024), eq. 1 with the other factors held still.
    """
    _require_series(points, more_rows)
    most = max(point.rows for point in points)
    curves = list(_curves(points, asked=most + more_rows))
    if not curves:
        raise _cannot_tell(points, "the losses fall faster than any such curve")
    change = _interval((curve.change, curve.weight) for curve in curves)
    if change.high >= 0:
        rows = f"{more_rows:,} more rows"
        raise _cannot_tell(points, f"the losses cannot tell what {rows} bring: {change.low:+.3f} to {change.high:+.3f}")
    return LossForecast(
        points=tuple(sorted(points, key=_rows)),
        rows=most,
        more_rows=more_rows,
        change=change,
        loss=_interval((curve.loss, curve.weight) for curve in curves),
        exponent=_interval((curve.exponent, curve.weight) for curve in curves),
        floor=_interval((curve.floor, curve.weight) for curve in curves),
        source=SOURCE,
    )


def _curves(points: Sequence[CurvePoint], *, asked: int) -> Iterable[_Curve]:
    """Weigh the curves through the neighbourhood of the first and the last loss."""
    first, last = min(points, key=_rows).rows, max(points, key=_rows).rows
    start, end = (_mean([point for point in points if point.rows == rows]) for rows in (first, last))
    errors = [point.error * point.loss for point in points]
    for exponent in _EXPONENTS:
        powers = [point.rows**-exponent for point in points]
        high, low, there = first**-exponent, last**-exponent, asked**-exponent
        for top, bottom in product(*([at.loss * (1 + step * at.error) for step in _STEPS] for at in (start, end))):
            scale = (top - bottom) / (high - low)
            floor = bottom - scale * low
            if floor < 0:
                continue
            misses = sum(
                ((scale * power + floor - point.loss) / error) ** 2
                for power, point, error in zip(powers, points, errors, strict=True)
            )
            yield _Curve(
                weight=(1 + misses / _NOISE_WEIGHT) ** (-(_NOISE_WEIGHT + len(points)) / 2),
                exponent=exponent,
                floor=floor,
                loss=scale * there + floor,
                change=scale * (there - low),
            )


def _interval(weighted: Iterable[tuple[float, float]]) -> Interval:
    """Give the 5 %, 50 % and 95 % points of weighted values."""
    ordered = sorted(weighted)
    total = math.fsum(weight for _, weight in ordered)
    found: list[float] = []
    below = 0.0
    for value, weight in ordered:
        below += weight
        while len(found) < len(_SHARES) and below >= _SHARES[len(found)] * total:
            found.append(value)
    found += [ordered[-1][0]] * (len(_SHARES) - len(found))
    return Interval(low=found[0], mid=found[1], high=found[2])


def _require_series(points: Sequence[CurvePoint], more_rows: int) -> None:
    sizes = sorted({point.rows for point in points})
    if len(sizes) < MIN_SIZES:
        what, fix = f"{len(sizes)} different row counts", "train on a quarter and a half: --set data.max_rows=N"
    elif sizes[-1] < MIN_SPREAD * sizes[0]:
        what, fix = f"from {sizes[0]:,} to {sizes[-1]:,} rows", "train on a quarter as many: --set data.max_rows=N"
    elif sizes[-1] + more_rows > MAX_REACH * sizes[-1]:
        what = f"asked is {sizes[-1] + more_rows:,} rows, known are {sizes[-1]:,}"
        fix = f"ask for at most {int((MAX_REACH - 1) * sizes[-1]):,} more rows"
    else:
        return
    raise FineTuneError(
        "E02",
        what=f"these points show no learning curve: {what}",
        where=", ".join(f"{point.rows:,} rows {point.loss:.4f}" for point in sorted(points, key=_rows)),
        why=f"it takes {MIN_SIZES} row counts, the most at least {MIN_SPREAD:g} times the fewest, and reaches "
        f"{MAX_REACH:g} times as far",
        fix=fix,
    )


def _cannot_tell(points: Sequence[CurvePoint], what: str) -> FineTuneError:
    return FineTuneError(
        "E02",
        what=what,
        where=", ".join(f"{point.rows:,} rows {point.loss:.4f}" for point in sorted(points, key=_rows)),
        why="by another seed and other validation rows they differ as much as the curves through them",
        fix="add a run on fewer rows, repeat one with --set seed=1, or raise data.validation_fraction",
    )


def _mean(repeats: Sequence[CurvePoint]) -> CurvePoint:
    """Put runs on as many rows together."""
    loss = math.fsum(point.loss for point in repeats) / len(repeats)
    return repeats[0].model_copy(update={"loss": loss})


def _rows(point: CurvePoint) -> int:
    return point.rows
