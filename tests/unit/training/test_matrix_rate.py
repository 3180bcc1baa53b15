"""The two-second probe: a plausible rate, and a plan that follows it."""

import time

from finetune_exe.domain.task import TaskSpec
from finetune_exe.training.matrix_rate import measure_matrix_rate
from finetune_exe.workflow.plans import find_hardware, make_plan


def test_the_rate_is_that_of_real_products_and_soon_known() -> None:
    started = time.monotonic()
    rate = measure_matrix_rate("float32", seconds=0.2)
    assert 1e8 < rate < 1e15
    assert time.monotonic() - started < 30


def test_the_speed_follows_the_rate_measured_and_is_surer() -> None:
    spec = TaskSpec(description="write docstrings", model="embedded")
    machine = find_hardware("cpu")
    slow, fast = (
        make_plan(spec, hardware=machine.model_copy(update={"matrix_flops_per_second": rate})).estimates["speed"].value
        for rate in (5e10, 1e11)
    )
    assert 1.5 < fast.mid / slow.mid <= 2.01
    guessed = make_plan(spec, hardware=machine).estimates["speed"].value
    assert fast.high / fast.low < guessed.high / guessed.low
