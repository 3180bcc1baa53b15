"""Each readiness check can pass and can fail, with the fix."""

from typing import Any

import pytest
from tests.unit.planning.planned import CPU, make_plan, make_profile

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.values import Check
from finetune_exe.planning import readiness
from finetune_exe.planning.hardware import parse_hardware


def check_named(name: str, *, settings: dict[str, Any] | None = None, **changes: Any) -> Check:
    plan = make_plan(profile=make_profile(**changes), hardware=CPU)
    for group, update in (settings or {}).items():
        part = getattr(plan, group).model_copy(update=update)
        plan = plan.model_copy(update={group: part})
    return next(check for check in readiness.check_readiness(plan) if check.name == name)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("Data readable", {"num_unreadable": 1000}),
        ("Format recognised", {"settings": {"data": {"format": "chatml"}}}),
        ("Enough rows", {"num_rows": 49}),
        ("Enough rows", {"num_rows": 400, "empty_answer_share": 1.0}),
        ("Enough test rows", {"num_rows": 100}),
        ("Rows fit the model", {"settings": {"data": {"max_length": 9000}}}),
        ("Memory fits", {"settings": {"hardware": {"memory_bytes": 1 << 30}}}),
        ("Done within a day", {"num_rows": 900_000}),
        ("Baseline and metrics defined", {"settings": {"evaluation": {"metrics": ()}}}),
    ],
)
def test_each_check_passes_and_fails(name: str, bad: dict[str, Any]) -> None:
    assert check_named(name).passed is True
    failed = check_named(name, **bad)
    assert failed.passed is False
    assert failed.fix


def test_missing_packages_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_PACKAGES", ("json", "no_such_package"))
    assert readiness.missing_packages() == ("no_such_package",)
    failed = check_named("Training packages installed")
    assert failed.passed is False
    assert failed.fix == 'pip install "finetune-exe[train]"'


def test_the_speed_of_a_gpu_without_a_name_is_not_known_and_the_option_is_named() -> None:
    plan = make_plan(profile=make_profile(), hardware=parse_hardware("24"), model="Qwen/Qwen2.5-7B-Instruct")
    check = next(check for check in plan.readiness if check.name == "Done within a day")
    assert check.passed is None
    assert "--gpu" in check.detail
    assert "dimensions" not in check.detail


def test_what_was_not_looked_at_is_said_so() -> None:
    checks = {check.name: check for check in make_plan(model="someone/unknown-model").readiness}
    unknown = {name for name, check in checks.items() if check.passed is None}
    assert {"Base model known", "Enough rows", "Memory fits", "Done within a day"} <= unknown
    assert checks["Data readable"].passed is False


def test_limits_are_held_against_what_is_expected_and_what_may_be() -> None:
    def planned(**limits: float) -> Plan:
        return make_plan(profile=make_profile(), hardware=parse_hardware("RTX 4090"), **limits)

    free = planned()
    assert not [check for check in free.readiness if check.name.startswith("Within")]
    hours, dollars = free.estimates["duration"].value, free.estimates["cost"].value
    for name, field, value, unit in (
        ("Within the hours", "hours", hours, 3600), ("Within the budget", "budget_usd", dollars, 1),
    ):  # fmt: skip
        for most, kept, said in (
            (value.high * 1.1, True, False),
            ((value.mid + value.high) / 2, True, True),
            ((value.low + value.mid) / 2, False, True),
        ):
            plan = planned(**{field: most / unit})
            (check,) = (check for check in plan.readiness if check.name == name)
            assert check.passed is kept
            assert any(note.startswith("You allow") for note in plan.notes) == said


def test_a_limit_says_nothing_of_rows_that_are_a_guess() -> None:
    plan = make_plan(hardware=parse_hardware("RTX 4090"), hours=0.01)
    assert not [check for check in plan.readiness if check.name.startswith("Within")]
