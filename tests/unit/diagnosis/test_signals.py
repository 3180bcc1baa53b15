"""Each signal is found where it was put, with its size, and nowhere else."""

from __future__ import annotations

import math
import random

import pytest

from finetune_exe.diagnosis.series import Point, Series
from finetune_exe.diagnosis.signals import Signal, signals


def named(points: list[Point]) -> dict[str, Signal]:
    return {signal.name: signal for signal in signals(Series(points=points))}


def run(steps: int = 200, *, noise: float = 0.02, seed: int = 0, per_epoch: int = 50) -> list[Point]:
    """Write an ordinary run: loss falls from 2.2 to about 1.2."""
    rng = random.Random(seed)  # noqa: S311
    return [
        Point(step=i, train_loss=1.2 + math.exp(-i / 40) + rng.gauss(0, noise), grad_norm=abs(rng.gauss(0.6, 0.1)),
              learning_rate=2e-4, epoch=i / per_epoch, throughput=rng.gauss(10, 0.3), memory=20.0)
        for i in range(1, steps + 1)
    ]  # fmt: skip


def with_loss(points: list[Point], loss: dict[int, float]) -> list[Point]:
    return [
        Point(step=p.step, train_loss=loss.get(int(p.step or 0), p.train_loss or 0.0), grad_norm=p.grad_norm,
              learning_rate=p.learning_rate, epoch=p.epoch)
        for p in points
    ]  # fmt: skip


def evaluated(losses: list[float], every: int = 20) -> list[Point]:
    return [Point(step=every * i, eval_loss=loss) for i, loss in enumerate(losses, 1)]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1])
def test_an_ordinary_run_shows_nothing(seed: int, noise: float) -> None:
    assert named(run(noise=noise, seed=seed)) == {}


def test_overfitting_begins_at_the_minimum_and_is_as_large_as_the_rise() -> None:
    found = named(evaluated([2.0, 1.6, 1.5, 1.55, 1.62, 1.65]))["overfitting"]
    assert found.step == 60
    assert found.effect == pytest.approx((1.62 + 1.65) / 2 / 1.5 - 1)


def test_divergence_begins_where_the_loss_turns() -> None:
    points = with_loss(run(), {i: 1.3 + 0.05 * (i - 120) for i in range(120, 201)})
    found = named(points)["divergence"]
    assert 120 <= (found.step or 0) <= 150
    assert found.effect > 2


def test_a_spike_is_found_at_its_step() -> None:
    found = named(with_loss(run(), {77: 4.0}))["spikes"]
    assert found.step == 77
    assert found.effect == pytest.approx(4.0 / 1.35, rel=0.1)


def test_stairs_at_the_borders_of_epochs_are_seen() -> None:
    rng = random.Random(1)  # noqa: S311
    points = [Point(step=i, epoch=i / 50, train_loss=[1.5, 1.1, 0.7, 0.4][(i - 1) // 50] + rng.gauss(0, 0.01)) for i in range(1, 201)]  # fmt: skip
    found = named(points)["staircase"]
    assert found.step == 51
    assert found.effect == pytest.approx(0.36, abs=0.08)
    smooth = [Point(step=i, epoch=i / 50, train_loss=2 - i / 150) for i in range(1, 201)]
    assert "staircase" not in named(smooth)


def test_not_finite_values_are_counted_from_the_first() -> None:
    found = named(with_loss(run(), {90: math.nan, 91: math.inf}))["train_loss_not_finite"]
    assert found.step == 90
    assert found.effect == pytest.approx(2 / 200)


def test_a_flat_run_is_a_plateau_and_a_scattered_one_unsteady() -> None:
    rng = random.Random(2)  # noqa: S311
    flat = [Point(step=i, train_loss=2.4 + rng.gauss(0, 0.01)) for i in range(100)]
    assert abs(named(flat)["plateau"].effect) < 0.01
    wild = [Point(step=i, train_loss=rng.uniform(0.5, 4)) for i in range(200)]
    assert "instability" in named(wild)


def test_what_still_falls_is_undertrained() -> None:
    found = named(evaluated([3, 2.6, 2.3, 2.1, 1.95, 1.8]))["undertrained"]
    assert found.effect == pytest.approx(1 - 1.8 / 2.1)


def test_pace_memory_and_gradients_are_watched() -> None:
    points = [
        Point(
            step=i, throughput=10 if i < 100 else 4, memory=20 + max(0, i - 60) / 10, grad_norm=0.5 if i < 150 else 50
        )
        for i in range(200)
    ]
    found = named(points)
    assert 95 <= (found["slowdown"].step or 0) <= 115
    assert found["slowdown"].effect == pytest.approx(0.4)
    assert found["memory_growth"].effect > 1.3
    assert 145 <= (found["gradient_growth"].step or 0) <= 155


def test_a_sum_of_accumulated_losses_stands_out_beside_the_validation_loss() -> None:
    points = [
        Point(step=i, eval_loss=1.5) if i % 20 == 0 else Point(step=i, train_loss=8 * 1.5 + i / 1e3)
        for i in range(1, 99)
    ]
    assert named(points)["loss_scale_mismatch"].effect == pytest.approx(8, rel=0.02)


@pytest.mark.parametrize("count", range(4))
def test_few_points_show_nothing(count: int) -> None:
    assert named(run(count)) == {}


def test_a_loss_that_climbs_far_above_its_start_is_an_excursion_even_if_it_comes_back() -> None:
    points = with_loss(run(), dict.fromkeys(range(20, 45), 8.0))
    found = named(points)["excursion"]
    assert found.step == 20
    assert found.effect == pytest.approx(8 / 2.15, rel=0.05)


def general(losses: list[float]) -> list[Point]:
    return [Point(step=20 * i, general_loss=loss) for i, loss in enumerate(losses)]


def test_general_text_that_was_unlearned_is_found_where_it_went_over_the_limit() -> None:
    found = named([*run(), *general([2.0, 2.1, 2.2, 2.9, 2.6])])["forgetting"]
    assert found.step == 60
    assert found.effect == pytest.approx(0.6), "the smaller of the last two counts"
    assert "2.000 to 2.600" in found.text


@pytest.mark.parametrize("losses", [[2.0, 2.0, 3.0, 2.1], [2.0, 3.0], [2.0, 2.2, 2.2], [3.0, 2.0, 1.0]])
def test_general_text_that_is_still_known_is_no_forgetting(losses: list[float]) -> None:
    assert named(general(losses)) == {}


def test_a_loss_thrown_up_by_the_very_first_step_is_an_excursion_and_an_easy_first_batch_is_none() -> None:
    rng = random.Random(3)  # noqa: S311
    falling = [2.5 * 0.97**i + 0.5 + rng.gauss(0, 0.03) for i in range(60)]
    thrown = [3.0, 9.0, 8.5, 7.0, 5.0, *falling]
    assert "excursion" in named([Point(step=i, train_loss=loss) for i, loss in enumerate(thrown)])
    noisy = [0.9, *(2.0 + rng.gauss(0, 0.3) for _ in range(60))]
    assert "excursion" not in named([Point(step=i, train_loss=loss) for i, loss in enumerate(noisy)])


def test_a_model_that_knew_nothing_of_general_text_forgets_nothing() -> None:
    assert "forgetting" in named(general([3.1, 3.3, 3.6, 3.7]))
    assert "forgetting" not in named(general([10.9, 11.8, 12.3, 12.4]))


@pytest.mark.parametrize("seed", range(20))
def test_heavy_noise_and_summed_losses_are_no_climb(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    noisy = [Point(step=i, train_loss=2.4 * math.exp(rng.gauss(0, 0.35))) for i in range(600)]
    assert "excursion" not in named(noisy)
    summed = [Point(step=p.step, train_loss=16 * (p.train_loss or 0.0)) for p in run(seed=seed)]
    points = sorted([*summed, *evaluated([2.0, 1.6, 1.4, 1.3, 1.25])], key=lambda point: point.step or 0)
    assert "excursion" not in named(points)
    assert "loss_scale_mismatch" in named(points)
