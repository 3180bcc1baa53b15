"""The demo fits its time on fast, slow and disturbed machines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.report import sample

from finetune_exe.domain.values import Estimate, Interval
from finetune_exe.training.probe import MachineSpeed
from finetune_exe.workflow.demo import (
    MAXIMUM_ROWS,
    MINIMUM_ROWS,
    MINIMUM_TEST_ROWS,
    SHARE_OF_ROWS,
    SHARE_OF_TRAINING,
    Demo,
    Size,
    size_run,
    trim_evaluation,
)


def speed(train: float, *, ratio: float = 1.05) -> MachineSpeed:
    return MachineSpeed(
        load_seconds=2.0, training_tokens_per_second=train, slowest_step_ratio=ratio, reading_tokens_per_second=2.5 * train,
        answer_start_seconds=800 / train, answer_seconds_per_token=60 / train,
    )  # fmt: skip


@given(train=st.floats(100, 5000), seconds=st.floats(150, 3000))
def test_training_and_answers_fit_the_time_given(train: float, seconds: float) -> None:
    size = size_run(speed(train), tokens_per_row=130, seconds=seconds)
    if size.train_rows > MINIMUM_ROWS:
        assert size.train_seconds <= SHARE_OF_TRAINING * seconds + 1
    if size.test_rows > MINIMUM_TEST_ROWS:
        assert size.test_seconds <= SHARE_OF_ROWS * (1 - SHARE_OF_TRAINING) * seconds + 1
    assert MINIMUM_ROWS <= size.train_rows <= MAXIMUM_ROWS


def test_a_faster_machine_or_more_time_gets_a_longer_run() -> None:
    rows = [size_run(speed(train), tokens_per_row=130, seconds=250).train_rows for train in (100, 200, 400, 800)]
    assert rows == sorted(rows)
    assert rows[0] < rows[-1]
    assert (
        size_run(speed(300), tokens_per_row=130, seconds=600).train_rows
        > size_run(speed(300), tokens_per_row=130, seconds=200).train_rows
    )


@pytest.mark.parametrize(
    ("slower", "left", "wanted"), [(1.0, 500.0, 64), (4.0, 100.0, 16), (1.0, 80.0, 48), (2.0, -5.0, 16)]
)
def test_a_machine_that_became_slower_answers_less(slower: float, left: float, wanted: int) -> None:
    interval = Interval(low=200.0, mid=250.0, high=300.0)
    pace = Estimate(value=interval, unit="tokens_per_second", reason="timed", source="probe")
    plan = sample.plan().model_copy(update={"estimates": {"speed": pace}})
    size = Size(train_rows=100, validation_rows=20, test_rows=64, train_seconds=100, test_seconds=80)
    run = sample.run().model_copy(update={"processed_tokens": 1000, "seconds": 1000 * slower / interval.mid})
    trimmed = trim_evaluation(Demo(plan=plan, size=size), run, seconds_left=left)
    assert (trimmed is plan) == (wanted == 64)
    assert trimmed is plan or trimmed.evaluation.max_generations == wanted
