"""Learning rates against transformers' own schedules."""

from __future__ import annotations

from typing import Literal

import pytest

from finetune_exe.domain.plan import Schedule, WarmupFraction, WarmupSteps
from finetune_exe.training.schedule import learning_rate, warmup_steps


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warm", [0, 3])
def test_schedules_fall_as_in_transformers(kind: Literal["cosine", "linear", "constant"], warm: int) -> None:
    import torch
    from transformers import get_scheduler

    name = {"constant": "constant_with_warmup"}.get(kind, kind)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)
    theirs = get_scheduler(name, optimizer, num_warmup_steps=warm, num_training_steps=20)
    schedule = Schedule(kind=kind, warmup=WarmupSteps(steps=warm))
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
