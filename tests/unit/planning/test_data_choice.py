"""How rows are shared out by advice: how many are held out, what stays together, and what the plan's box says of it."""

from __future__ import annotations

import math

import pytest
from tests.unit.planning.planned import CPU, make_plan, make_profile

from finetune_exe.domain.plan import DataChoice, Plan
from finetune_exe.domain.task import DataProfile, TaskSpec
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.rows import row_tokens, split_sizes
from finetune_exe.planning.analyze import analyze
from finetune_exe.report.plan import render_plan
from finetune_exe.workflow.plans import make_plan as plan_task


def wish(profile: DataProfile, *settings: str) -> Plan:
    asked = TaskSpec(description="write a docstring", data_paths=("rows.jsonl",))
    return analyze(asked, profile=profile, hardware=CPU, settings=settings)


def box(plan: Plan) -> str:
    """Give the part of the plan that says how it is evaluated, without the lines of its box."""
    text = render_plan(plan, config="", commands=()).split("EVALUATION PLAN")[1]
    return " ".join(text.translate(str.maketrans(dict.fromkeys("│┌┐└┘─\n", " "))).split())


@pytest.mark.parametrize(
    ("rows", "test", "validation"),
    [(300, 30, 30), (8_000, 800, 800), (20_000, 2_000, 1_000), (1_000_000, 2_000, 1_000)],
)
def test_a_tenth_is_held_out_and_of_very_many_rows_no_more_than_are_of_use(
    rows: int, test: int, validation: int
) -> None:
    plan = make_plan(profile=make_profile(num_rows=rows))
    sizes = split_sizes(plan)
    assert (sizes.test, sizes.validation) == (test, validation)
    decision = plan.decisions["data.test_fraction"]
    difference = (1.959964 + 0.841621) / math.sqrt(test)  # normal quantiles at 97.5 % and 80 %
    assert f"{test:,} of {rows:,} rows find a difference of {difference:.2f} standard deviations" in decision.reason
    assert ("would find the small one that is wanted" in decision.reason) is (test < plan.data_needs.test_samples)


def test_labels_are_shared_out_alike_and_repeats_are_counted() -> None:
    labelled = make_plan(profile=make_profile(labels=("good", "bad"), duplicate_share=0.125), description="classify")
    assert labelled.data.stratify_by == "label"
    assert "2 labels" in labelled.decisions["data.stratify_by"].reason
    assert "12.5% of the rows say what an earlier one says" in labelled.decisions["data.keep_similar_together"].reason
    prose = make_plan(profile=make_profile(row_characters_p50=120, row_characters_p99=9_000))
    assert prose.data.stratify_by == "auto"
    assert "120 characters or fewer, one in a hundred 9,000" in prose.decisions["data.stratify_by"].reason


def test_without_data_nothing_is_said_of_them() -> None:
    plan = make_plan(profile=None)
    assert plan.data == DataChoice()
    assert not any(path.startswith("data.") for path in plan.decisions)


def test_the_box_names_the_test_set_that_will_be_used() -> None:
    profile = make_profile(num_rows=4_800)
    assert "10.0 % of the rows, about 480" in box(make_plan(profile=profile))
    given = wish(profile, "data.test_paths=[held.jsonl]")
    assert "Test Set: held.jsonl; held out until the end" in box(given)
    assert "% of the rows" not in box(given)
    assert "data.test_fraction" not in given.decisions
    wanted = wish(profile, "data.detectable_difference=0.2")
    assert "as many rows as find a difference of 0.2 standard deviations, about 196" in box(wanted)
    assert "data.test_fraction" not in wanted.decisions


def test_test_rows_in_a_file_are_not_called_missing() -> None:
    plan = wish(make_profile(num_rows=400), "data.test_paths=[held.jsonl]")
    [check] = [check for check in plan.readiness if check.name == "Enough test rows"]
    assert check.passed is None
    assert "held.jsonl" in check.detail
    few = wish(make_profile(num_rows=400), "data.detectable_difference=1")
    [check] = [check for check in few.readiness if check.name == "Enough test rows"]
    assert check.fix is not None
    assert "data.detectable_difference=0.5" in check.fix


def test_an_unknown_fault_to_drop_is_refused_when_the_plan_is_made() -> None:
    with pytest.raises(FineTuneError, match="did you mean mojibake") as caught:
        plan_task(TaskSpec(description="answer questions", model="embedded"), settings=("data.drop=[mojibak]",))
    assert caught.value.code == "C02"


@pytest.mark.parametrize(
    ("changes", "settings", "said"),
    [
        ({"row_characters_max": 9000}, (), "longer ones are dropped and counted"),
        ({"row_characters_max": 9000}, ("data.on_too_long=refuse",), "longer ones are refused"),
        ({"row_characters_max": 2900}, (), "none is longer"),
        ({"row_characters_max": 9000, "format": "completion"}, (), "longer texts are cut into several"),
    ],
)
def test_what_becomes_of_longer_rows_is_said(changes: dict[str, object], settings: tuple[str, ...], said: str) -> None:
    assert wish(make_profile(**changes), *settings).decisions["data.max_length"].reason.endswith(said)


def test_the_tokens_of_a_chat_template_count_where_no_tokenizer_is_at_hand() -> None:
    """Short rows: 40 characters are 10 tokens, two messages 10 more; SmolLM2 writes 21 for a system turn besides."""
    short = make_profile(row_characters_mean=40.0, row_characters_p99=90, row_characters_max=95)
    plan = make_plan(profile=short)
    judged = row_tokens(plan)
    assert judged.mid == pytest.approx(40 / 4 + 2 * 5)
    assert judged.low < 10 + 2 * 5.5 + 21 < judged.high
    assert plan.data.max_length == 128  # 90 / 3 + 35, in steps of 64: with 64 a third of such rows would be too long
    assert "and up to 35 tokens of a chat template; none is longer" in plan.decisions["data.max_length"].reason
    text = make_plan(profile=short.model_copy(update={"format": "completion"}))
    assert row_tokens(text).mid == pytest.approx(10)
    assert text.data.max_length == 64
