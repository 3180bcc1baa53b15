"""The forecast of a learning curve, against curves that are known."""

from collections.abc import Sequence

import numpy as np
import pytest

from finetune_exe.domain.forecast import CurvePoint
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.learning_curve import error_of_loss, forecast_loss

SIZES = (125, 250, 500, 1000)


def points(
    scale: float, exponent: float, floor: float, *, sizes: Sequence[int] = SIZES, noise: float = 0.0, seed: int = 0
) -> list[CurvePoint]:
    rng = np.random.default_rng(seed)
    return [CurvePoint(rows=n, loss=(scale * n**-exponent + floor) * (1 + rng.normal(0, noise))) for n in sizes]


@pytest.mark.parametrize(("scale", "exponent", "floor"), [(60.0, 0.8, 0.9), (4.0, 0.3, 1.0), (3.0, 0.15, 0.5)])
def test_a_known_curve_is_found(scale: float, exponent: float, floor: float) -> None:
    forecast = forecast_loss(points(scale, exponent, floor), more_rows=500)
    truth = scale * (1500**-exponent - 1000**-exponent)
    assert forecast.change.contains(truth)
    assert forecast.change.mid == pytest.approx(truth, rel=0.25)
    assert forecast.loss.contains(scale * 1500**-exponent + floor)
    assert forecast.exponent.contains(exponent)


def test_intervals_hold_about_nine_times_in_ten() -> None:
    rng, told, held = np.random.default_rng(7), 0, 0
    for seed in range(24):
        exponent, floor = float(rng.choice((0.1, 0.2, 0.3, 0.5, 0.8))), rng.uniform(0.5, 1.5)
        scale = rng.uniform(0.2, 0.8) * 250**exponent
        try:
            forecast = forecast_loss(
                points(scale, exponent, floor, sizes=(250, 500, 1000), noise=0.005, seed=seed), more_rows=500
            )
        except FineTuneError:
            continue
        told += 1
        held += forecast.change.contains(scale * (1500**-exponent - 1000**-exponent))
    assert told >= 18
    assert held / told >= 0.85


def test_more_rows_bring_more_and_are_less_sure() -> None:
    known = points(4.0, 0.3, 1.0)
    near, far = (forecast_loss(known, more_rows=more).change for more in (250, 4000))
    assert far.mid < near.mid < 0
    assert far.high - far.low > near.high - near.low


@pytest.mark.parametrize(
    ("given", "more_rows"),
    [
        (points(4.0, 0.3, 1.0, sizes=(500, 1000, 1000)), 500),
        (points(4.0, 0.3, 1.0, sizes=(800, 900, 1000)), 500),
        (points(4.0, 0.3, 1.0), 50_000),
        ([CurvePoint(rows=n, loss=loss) for n, loss in ((250, 1.21), (500, 1.20), (1000, 1.207))], 500),
        ([CurvePoint(rows=n, loss=loss) for n, loss in ((250, 1.0), (500, 1.1), (1000, 1.2))], 500),
        ([CurvePoint(rows=n, loss=loss) for n, loss in ((250, 10.0), (500, 5.0), (1000, 0.1))], 500),
    ],
    ids=["two sizes", "close together", "too far", "noise", "rising", "no power law"],
)
def test_what_cannot_be_told_is_refused(given: list[CurvePoint], more_rows: int) -> None:
    with pytest.raises(FineTuneError) as caught:
        forecast_loss(given, more_rows=more_rows)
    assert caught.value.code == "E02"


def test_few_validation_rows_widen_the_forecast() -> None:
    sharp, blurred = (
        [point.model_copy(update={"error": error_of_loss(rows)}) for point in points(60.0, 0.8, 0.9)]
        for rows in (20_000, 2000)
    )
    near, wide = (forecast_loss(known, more_rows=500).change for known in (sharp, blurred))
    assert wide.high - wide.low > near.high - near.low
