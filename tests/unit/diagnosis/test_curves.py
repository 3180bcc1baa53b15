"""Curves are judged by effect, not by noise, and every form of log gives the same series."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.diagnosis.curves import judge, noise
from finetune_exe.diagnosis.read import read_text
from finetune_exe.diagnosis.series import Point, Series, SeriesFinder, read_run_events, read_trainer_state
from finetune_exe.domain.events import Evaluated, StepFinished
from finetune_exe.errors import FineTuneError

CURVES = Path(__file__).resolve().parents[3] / ".." / "shared" / "truth" / "curves.dev.jsonl"


def series(train: list[float], evaluation: list[float] | None = None, **options: float) -> Series:
    points = [Point(step=i + 1, train_loss=loss, **options) for i, loss in enumerate(train)]
    every = max(1, len(train) // max(1, len(evaluation or [])))
    points += [Point(step=(i + 1) * every, eval_loss=loss) for i, loss in enumerate(evaluation or [])]
    return Series(points=sorted(points, key=lambda point: point.step or 0))


def label(made: Series) -> str | None:
    judgement = judge(made)
    return judgement and judgement.label


FALLING = [2.0 * 0.98**i + 0.5 for i in range(100)]


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("healthy", series(FALLING, [1.5, 1.0, 0.8, 0.7, 0.695, 0.69])),
        ("overfitting", series(FALLING, [1.0, 0.8, 0.9, 1.0, 1.1])),
        ("mild_overfitting", series(FALLING, [1.0, 0.8, 0.805, 0.81, 0.812, 0.813])),
        ("undertrained", series(FALLING, [1.5, 1.3, 1.1, 0.9, 0.7, 0.5])),
        ("eval_unstable", series(FALLING, [0.7, 0.95, 0.7, 1.2, 0.6])),
        ("nan_loss", series([*FALLING, math.nan])),
        ("nan_loss", series([*FALLING, math.inf])),
        ("nan_eval", series(FALLING, [math.nan, math.nan])),
        ("divergence", series([*FALLING, *[FALLING[-1] + 0.2 * i for i in range(40)]])),
        ("divergence", series([*FALLING, 5.0, 0.8, 0.8, 6.0, 0.8])),
        ("plateau", series([2.0 + 0.01 * (-1) ** i for i in range(60)])),
        ("memorisation_suspected", series([3.0 * 0.9**i + 0.01 for i in range(100)], epoch=5.0)),
        ("train_only_falling", series(FALLING)),
        ("loss_zero_masked", series([0.0] * 20, grad_norm=math.nan)),
        ("loss_zero_masked", series([0.0] * 20, grad_norm=0.0)),
        ("rl_loss_not_informative", series([0.0] * 20, grad_norm=0.1)),
    ],
)
def test_each_shape_has_its_name(name: str, made: Series) -> None:
    assert label(made) == name


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_no_alarm(seed: int) -> None:
    rng = np.random.default_rng(seed)
    train = [1.0 + 1.5 * 0.99**i + rng.normal(0, 0.08) for i in range(400)]
    evaluation = [1.05 + 1.5 * 0.99 ** (20 * i) + rng.normal(0, 0.004) for i in range(20)]
    assert label(series(train, evaluation)) in ("healthy", "undertrained")
    assert label(series(train)) == "train_only_falling"


@pytest.mark.parametrize("seed", range(20))
def test_overfitting_is_seen_through_noise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    evaluation = [1.0 + 0.02 * abs(i - 6) + rng.normal(0, 0.01) for i in range(20)]
    assert label(series(FALLING, evaluation)) == "overfitting"


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_trends_are_no_noise(slope: float, offset: float) -> None:
    assert noise([offset + slope * i for i in range(50)]) == pytest.approx(0, abs=1e-9)


def test_noise_is_the_scatter() -> None:
    values = np.random.default_rng(1).normal(0, 0.3, 4000)
    assert noise(values.tolist()) == pytest.approx(0.3, rel=0.1)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=40), st.lists(st.floats(), max_size=10))
def test_no_curve_breaks_the_judge(train: list[float], evaluation: list[float]) -> None:
    judgement = judge(series(train, evaluation))
    assert judgement is None or 0 < judgement.confidence < 1


@pytest.mark.parametrize(
    "text",
    [
        "{'loss': 1.25, 'grad_norm': 0.5, 'learning_rate': 2e-4, 'epoch': 0.5}",
        "{'loss': '1.25', 'grad_norm': '0.5', 'learning_rate': '0.0002', 'epoch': '0.5'}",
        '{"current_steps": 7, "total_steps": 90, "loss": 1.25, "lr": 0.0002, "epoch": 0.5}',
        "Iter 25: Train loss 1.25, Learning Rate 2.000e-04, It/sec 0.999",
        "iter 7: loss 1.25, time 11.0ms",
        "Epoch 1 | iter 16 step 1 | loss train: 1.25, val: n/a",
        "1|25|Loss: 1.25:   3%|#  | 25/100 [00:10<01:00]",
        " 12%|#1 | 12/100 [00:10<01:12, 1.2it/s, loss=1.25]",
    ],
)
def test_the_logs_of_other_trainers_are_understood(text: str) -> None:
    finder = SeriesFinder()
    assert all(finder.feed(line) for line in read_text(text, where="test"))
    assert finder.series.train == [1.25]
    assert finder.series.evaluation == []


@pytest.mark.parametrize("text", ["{'eval_loss': 0.9, 'epoch': 1.0}", "Iter 1: Val loss 0.9, Val took 17.1s"])
def test_validation_losses_are_told_apart(text: str) -> None:
    finder = SeriesFinder()
    for line in read_text(text, where="test"):
        finder.feed(line)
    assert (finder.series.train, finder.series.evaluation) == ([], [0.9])


def test_a_log_of_two_runs_is_judged_by_the_last() -> None:
    finder = SeriesFinder()
    text = "\n".join(f"{{'loss': {loss}, 'epoch': {e / 10}}}" for run in (5, 1) for e, loss in enumerate([run] * 9, 1))
    for line in read_text(text, where="test"):
        finder.feed(line)
    assert finder.series.train == [1.0] * 9


def test_a_very_long_log_is_thinned_but_its_bad_points_stay() -> None:
    made = Series()
    for step in range(50_000):
        made.add(Point(step=step, train_loss=math.nan if step == 49_001 else 1.0))
        if made.full:
            made.thin()
    assert len(made.points) < 10_000
    assert label(made) == "nan_loss"


def test_our_own_events_give_the_same_curve() -> None:
    numbers = {"num_steps": 9, "epoch": 1.0, "learning_rate": 1e-4, "gradient_norm": 1.0, "learned_tokens": 1,
               "processed_tokens": 1, "padded_tokens": 1, "step_seconds": 1.0}  # fmt: skip
    steps = [StepFinished(seconds=1.0, step=i, loss=2.0 - i / 10, **numbers) for i in range(1, 9)]
    measured = [
        Evaluated(seconds=1.0, step=8 + i, epoch=1.0, validation_loss=loss, best=False)
        for i, loss in enumerate((1.0, 2.0, 3.0))
    ]
    made = read_run_events([*steps, *measured])
    assert label(made) == "overfitting"
    assert made.peak_learning_rate == 1e-4
    resumed = read_run_events([*steps, *steps[4:], *measured])
    assert resumed.train == [*made.train[:5], *made.train[4:]]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"log_history": []}', b'{"eval_results": 1}'])
def test_a_trainer_state_without_losses_is_refused(content: bytes) -> None:
    with pytest.raises(FineTuneError) as caught:
        read_trainer_state(Path("trainer_state.json"), content)
    assert caught.value.code == "L01"


def test_real_histories_are_named_as_their_labels_say() -> None:
    if not CURVES.exists():
        pytest.skip("the real loss histories are not on this machine")
    right, alarms, num_healthy = 0, 0, 0
    cases = [json.loads(line) for line in CURVES.read_text().splitlines()]
    for case in cases:
        columns = {"loss": "train_loss", "learning_rate": "lr", "grad_norm": "grad_norm", "epoch": "epoch"}
        history = [
            {"step": step} | {name: case[key][i] for name, key in columns.items() if case[key]}
            for i, step in enumerate(case["steps"])
        ]
        history += [{"step": s, "eval_loss": v} for s, v in zip(case["eval_steps"], case["eval_loss"], strict=True)]
        state = {"log_history": sorted(history, key=lambda h: h["step"]), "num_train_epochs": case["num_train_epochs"]}
        said = label(read_trainer_state(Path("x"), json.dumps(state).encode()))
        right += said in {case["label"], *case["also"]}
        num_healthy += case["label"] == "healthy"
        alarms += case["label"] == "healthy" and said not in ("healthy", "train_only_falling")
    assert right / len(cases) >= 0.9
    assert alarms <= 0.1 * num_healthy


@pytest.mark.parametrize("seed", range(30))
def test_a_flat_and_very_noisy_loss_neither_diverges_nor_learns(seed: int) -> None:
    losses = 2.4 * np.exp(np.random.default_rng(seed).normal(0, 0.35, 600))
    assert label(series([float(loss) for loss in losses])) in {"plateau", "train_only_falling"}


def test_a_lucky_low_among_steady_validation_losses_is_seldom_taken_for_overfitting() -> None:
    said = []
    for seed in range(40):
        scatter = np.random.default_rng(seed).normal(0, 0.008, 20)
        losses = [(1.2 + 0.8 * math.exp(-0.5 * i)) * math.exp(e) for i, e in enumerate(scatter)]
        said.append(label(series(FALLING, losses)))
    assert "overfitting" not in said
    assert said.count("mild_overfitting") <= 4
