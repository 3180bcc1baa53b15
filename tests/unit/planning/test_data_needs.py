"""How many rows a task wants."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.planning.planned import make_profile

from finetune_exe.domain.task import TaskType
from finetune_exe.estimate.sample_size import rows_for_means, rows_for_proportions
from finetune_exe.planning.data_needs import data_needs

TASKS = [task for task in get_args(TaskType) if task != "other"]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_an_interval_a_reason_and_a_source(task: TaskType) -> None:
    needs = data_needs(task, None)
    assert needs.recommended is not None
    assert needs.minimum_samples <= needs.recommended.low <= needs.recommended_samples <= needs.recommended.high
    assert needs.reason
    assert needs.source
    assert f"{needs.test_samples} test rows" in needs.test_reason


@given(few=st.integers(2, 100), more=st.integers(1, 100))
def test_more_labels_want_more_rows(few: int, more: int) -> None:
    small, large = (
        data_needs("classification", make_profile(labels=tuple(map(str, range(count))))) for count in (few, few + more)
    )
    assert small.recommended_samples <= large.recommended_samples
    assert small.recommended_samples >= 500
    assert f"{few} labels" in small.reason


def test_repeated_answers_are_said_to_count_little() -> None:
    assert "repeats count little" in data_needs("chat", make_profile(num_rows=1000, distinct_answers=30)).reason
    assert "repeats" not in data_needs("chat", make_profile(num_rows=1000, distinct_answers=900)).reason


def test_the_test_rows_are_those_of_the_closed_form() -> None:
    assert data_needs("classification", None).test_samples == rows_for_proportions(0.5, 0.6, correlation=0.4)
    assert data_needs("generation", None).test_samples == rows_for_means(0.2, correlation=0.5)
