"""The length of a run in steps is that of this program's own loop."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.export.test_exporters import PROFILE, plan

from finetune_exe.domain.plan import Batch, Checkpoints, DataChoice, Parallelism, Schedule, WarmupFraction, WarmupSteps
from finetune_exe.errors import FineTuneError
from finetune_exe.export.run_length import run_length


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(50, 5000), batch=st.integers(1, 16), passes=st.integers(1, 8), processes=st.integers(1, 4),
    epochs=st.floats(0.5, 5.0), fraction=st.floats(0.0, 0.3), evaluations=st.floats(0.5, 8.0),
)  # fmt: skip
def test_steps_follow_from_rows(
    rows: int, batch: int, passes: int, processes: int, epochs: float, fraction: float, evaluations: float
) -> None:
    content = plan(
        profile=PROFILE.model_copy(update={"num_rows": rows}),
        data=DataChoice(validation_fraction=0.1, test_fraction=0.2),
        batch=Batch(micro_batch_size=batch, gradient_accumulation_steps=passes),
        parallelism=Parallelism(kind="ddp", num_gpus=processes),
        schedule=Schedule(epochs=epochs, warmup=WarmupFraction(fraction=fraction)),
        checkpoints=Checkpoints(evaluations_per_epoch=evaluations),
    )
    length = run_length(content, target="mlx", processes=processes)
    epoch = math.ceil(max(1, round(rows * 0.7)) / (batch * passes * processes))
    assert length.steps_per_epoch == epoch
    assert length.num_steps == max(1, round(epoch * epochs))
    assert length.num_warmup == math.ceil(fraction * length.num_steps)
    assert (length.num_epochs - 1) * epoch < length.num_steps <= length.num_epochs * epoch
    assert 1 <= length.evaluate_every(content) <= length.num_steps


def test_max_steps_ends_it_and_is_enough_alone() -> None:
    longer = plan(schedule=Schedule(max_steps=20, warmup=WarmupSteps(steps=50)))
    assert run_length(longer, target="mlx", processes=1)[:2] == (20, 20)
    unknown = plan(profile=None, schedule=Schedule(max_steps=20))
    assert run_length(unknown, target="mlx", processes=1).steps_per_epoch is None


def test_own_files_for_validation_leave_the_rows_whole() -> None:
    data = DataChoice(validation_paths=("v.jsonl",), test_paths=("t.jsonl",), max_rows=400)
    assert run_length(plan(data=data), target="mlx", processes=1).steps_per_epoch == 100


def test_without_rows_and_steps_there_is_no_length() -> None:
    with pytest.raises(FineTuneError, match=r"FT-O03.*needs the number of steps"):
        run_length(plan(profile=None), target="litgpt", processes=1)
