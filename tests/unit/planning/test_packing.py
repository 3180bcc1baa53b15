"""When rows are packed."""

from __future__ import annotations

import pytest
from tests.unit.planning.planned import CPU, make_profile

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.task import PairCounts, TaskSpec, TokenCounts
from finetune_exe.domain.values import Hardware
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.memory import estimate_memory
from finetune_exe.estimate.rows import arrange_passes
from finetune_exe.planning.analyze import analyze

UNLIKE = tuple(range(40, 500, 3))
ALIKE = (200,) * 100


def plan_for(
    lengths: tuple[int, ...],
    *settings: str,
    hardware: Hardware = CPU,
    rows: int = 150,
    method: str | None = None,
    shared: int = 0,
) -> Plan:
    tokens = TokenCounts(model="embedded", num_rows=rows, lengths=lengths, learned_share=0.5, shared_beginning=shared)
    spec = TaskSpec(description="write a docstring", data_paths=("rows.jsonl",), model="embedded", method=method)
    profile = make_profile(num_rows=rows, tokens=tokens)
    return analyze(spec, profile=profile, hardware=hardware, settings=("batch.micro_batch_size=8", *settings))


def test_rows_of_unlike_length_are_packed_in_random_order_and_nothing_is_padded() -> None:
    plan = plan_for(UNLIKE)
    assert (plan.batch.packing, plan.batch.group_by_length) == (True, False)
    assert "%" in plan.decisions["batch.packing"].reason
    packed, padded = arrange_passes(plan), arrange_passes(plan_for(UNLIKE, "batch.packing=false"))
    assert packed is not None
    assert padded is not None
    assert packed.padded_share < 0.01 < padded.padded_share
    assert packed.longest_tokens < padded.longest_tokens


def test_packing_needs_less_memory_and_time_by_the_estimate() -> None:
    packed, padded = plan_for(UNLIKE), plan_for(UNLIKE, "batch.packing=false")
    assert packed.estimates["speed"].value.mid > padded.estimates["speed"].value.mid
    assert packed.estimates["memory"].value.mid < padded.estimates["memory"].value.mid
    assert estimate_memory(packed) is not None


def test_rows_of_like_length_are_not_packed() -> None:
    assert not plan_for(ALIKE).batch.packing


def test_rows_of_like_length_that_begin_alike_are_packed_and_need_less_time() -> None:
    plan, apart = plan_for(ALIKE, shared=100), plan_for(ALIKE)
    assert plan.batch.packing
    assert "the 100 tokens that rows begin with alike" in plan.decisions["batch.packing"].reason
    assert plan.estimates["speed"].value.mid > 1.3 * apart.estimates["speed"].value.mid
    assert not plan_for(ALIKE, "batch.micro_batch_size=1", shared=100).batch.packing
    assert not plan_for(ALIKE, shared=4).batch.packing


@pytest.mark.parametrize("setting", ["batch.packing=false", "batch.group_by_length=true"])
def test_a_wish_is_left_alone(setting: str) -> None:
    assert not plan_for(UNLIKE, setting).batch.packing


def test_a_pass_of_one_row_and_a_prefix_are_not_packed() -> None:
    assert not plan_for(UNLIKE, "batch.micro_batch_size=1").batch.packing
    assert not plan_for(UNLIKE, method="prefix").batch.packing
    assert not plan_for(UNLIKE, "method.kind=prompt").batch.packing


def test_a_prefix_and_packing_exclude_each_other() -> None:
    with pytest.raises(FineTuneError, match=r"batch\.packing=true and method\.kind=prefix") as raised:
        plan_for(UNLIKE, "batch.packing=true", method="prefix")
    assert raised.value.code == "C11"


def test_pairs_are_packed_for_the_question_that_their_answers_share() -> None:
    tokens = TokenCounts(
        model="embedded", num_rows=150, lengths=ALIKE, learned_share=0.5, pairs=PairCounts(shared=0.5, learned=0.4)
    )
    spec = TaskSpec(description="answer politely", data_paths=("pairs.jsonl",), model="embedded")
    profile = make_profile(num_rows=150, tokens=tokens, format="preference")
    pairs = ("data.format=preference", "objective.kind=dpo")
    packed, padded = (
        analyze(spec, profile=profile, hardware=CPU, settings=(*pairs, f"batch.micro_batch_size={size}", *more))
        for size, more in ((1, ()), (1, ("batch.packing=false",)))
    )
    assert packed.batch.packing
    assert (
        "what the answers of a pair have before them is computed once: 25%" in packed.decisions["batch.packing"].reason
    )
    assert packed.estimates["speed"].value.mid > 1.15 * padded.estimates["speed"].value.mid
