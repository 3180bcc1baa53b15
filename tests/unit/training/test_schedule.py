"""Learning rates against transformers' own schedules."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_exe.domain.plan import Schedule, WarmupFraction, WarmupSteps
from finetune_exe.training.schedule import decay_steps, learning_rate, warmup_steps

THEIRS = {
    "cosine": ("cosine", {}),
    "linear": ("linear", {}),
    "constant": ("constant_with_warmup", {}),
    "wsd": ("warmup_stable_decay", {"num_decay_steps": 6, "decay_type": "linear"}),
    "inverse_sqrt": ("inverse_sqrt", {}),
}


@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize("warm", [0, 3])
def test_schedules_fall_as_in_transformers(kind: Any, warm: int) -> None:
    import torch
    from transformers import get_scheduler

    name, more = THEIRS[kind]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)
    theirs = get_scheduler(
        name, optimizer, num_warmup_steps=warm, num_training_steps=20, scheduler_specific_kwargs=more
    )
    schedule = Schedule(kind=kind, warmup=WarmupSteps(steps=warm), decay_fraction=0.3)
    for step in range(warm + 1, 21):
        while theirs.last_epoch < step - 1:
            optimizer.step()
            theirs.step()
        assert learning_rate(step, schedule, peak=2e-4, num_steps=20) == pytest.approx(
            theirs.get_last_lr()[0], rel=1e-9
        )


def test_warmup_rises_to_the_peak_and_never_is_zero() -> None:
    schedule = Schedule(warmup=WarmupFraction(fraction=0.1))
    assert warmup_steps(schedule, 35) == 4
    rates = [learning_rate(step, schedule, peak=1.0, num_steps=35) for step in range(1, 36)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert min(rates) > 0
    assert warmup_steps(Schedule(warmup=WarmupSteps(steps=99)), 35) == 35


@pytest.mark.parametrize("kind", THEIRS)
def test_no_step_is_above_the_peak_or_without_a_rate(kind: Any) -> None:
    for steps in (1, 2, 7):
        for warm in (0.0, 0.5, 0.99):
            for falling in (0.01, 1.0):
                schedule = Schedule(kind=kind, warmup=WarmupFraction(fraction=warm), decay_fraction=falling)
                rates = [learning_rate(step, schedule, peak=1.0, num_steps=steps) for step in range(1, steps + 1)]
                assert all(0 < rate <= 1 for rate in rates)


def test_a_fall_never_begins_within_the_warm_up() -> None:
    schedule = Schedule(kind="wsd", warmup=WarmupSteps(steps=8), decay_fraction=0.9)
    assert decay_steps(schedule, 10) == 2
    assert decay_steps(Schedule(kind="wsd", warmup=WarmupSteps(steps=10)), 10) == 1
