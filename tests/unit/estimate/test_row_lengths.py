"""Rows whose tokens were counted: how many are left, how long they are, and how they come out in passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from finetune_exe.domain.plan import Batch, DataChoice, Dpo, Plan
from finetune_exe.domain.task import PairCounts, TokenCounts
from finetune_exe.domain.values import Gpu, Hardware
from finetune_exe.estimate.activations import repeated_bytes
from finetune_exe.estimate.footprint import footprint
from finetune_exe.estimate.memory import estimate_memory
from finetune_exe.estimate.planned import plan_workload
from finetune_exe.estimate.processor import processor_throughput
from finetune_exe.estimate.rows import arrange_passes, learned_share, row_tokens, split_sizes
from finetune_exe.models.forward import pack
from finetune_exe.training.batches import plan_epoch

LENGTHS = tuple(range(20, 222, 2))


def counted(plan: Plan, *, lengths: tuple[int, ...] = LENGTHS, share: float = 0.25) -> Plan:
    assert plan.profile is not None
    tokens = TokenCounts(model=plan.model.reference, num_rows=400, lengths=lengths, learned_share=share)
    return plan.model_copy(update={"profile": plan.profile.model_copy(update={"tokens": tokens})})


def test_counted_rows_replace_guesses(plan_of: Callable[..., Plan]) -> None:
    plan = counted(plan_of())
    assert plan.profile is not None
    row = row_tokens(plan)
    assert row.mid == pytest.approx(np.mean(LENGTHS))
    assert row.high - row.low < 0.2 * row.mid
    assert learned_share(plan.profile, plan.profile.tokens).mid == 0.25
    workload = plan_workload(plan)
    assert workload is not None
    assert workload.mean_tokens == row.mid
    assert workload.learned_share == 0.25


def test_counts_of_another_model_say_nothing(plan_of: Callable[..., Plan]) -> None:
    plan = counted(plan_of())
    other = plan.model_copy(update={"model": plan.model.model_copy(update={"reference": "another"})})
    assert other.profile is not None
    assert row_tokens(other).mid == pytest.approx(225 + 10)  # 900 characters, and a template around two messages
    assert arrange_passes(other) is None


def test_rows_that_are_too_long_are_no_part_of_the_splits(plan_of: Callable[..., Plan]) -> None:
    plan = counted(plan_of(data=DataChoice(max_length=120, max_rows=1000)))
    assert plan.profile is not None
    sizes = split_sizes(plan)
    kept = sum(length <= 120 for length in LENGTHS) / len(LENGTHS)
    assert sizes.train + sizes.validation + sizes.test == pytest.approx(1000 * kept, abs=1)
    assert row_tokens(plan).mid == pytest.approx(np.mean([n for n in LENGTHS if n <= 120]))


@pytest.mark.parametrize(("grouped", "packing"), [(True, False), (False, False), (False, True), (True, True)])
@pytest.mark.parametrize(("micro", "accumulation"), [(1, 1), (4, 1), (8, 1), (4, 2)])
@pytest.mark.parametrize("rows", [60, 700])
def test_passes_come_out_as_the_trainer_arranges_them(
    plan_of: Callable[..., Plan], rows: int, micro: int, accumulation: int, grouped: bool, packing: bool
) -> None:
    """Drawn rows of the same lengths, arranged by the trainer itself for twenty seeds."""
    batch = Batch(
        micro_batch_size=micro, gradient_accumulation_steps=accumulation, group_by_length=grouped, packing=packing
    )
    data = DataChoice(max_length=1024, max_rows=rows, validation_fraction=0.01, test_fraction=0.01)
    plan = counted(plan_of(batch=batch, data=data))
    assert plan.profile is not None
    passes = arrange_passes(plan)
    assert passes is not None
    rng = np.random.default_rng(1)
    longest, padded, real = [], 0, 0
    for seed in range(20):
        lengths = rng.choice(LENGTHS, size=split_sizes(plan).train).tolist()
        blocks = [part for step in plan_epoch(lengths, batch, seed=seed, epoch=0) for part in step]
        held = [[lengths[index] for index in part] for part in blocks]
        sizes = [
            8 * math.ceil((sum(part) if packing else max(part)) / 8) * (1 if packing else len(part)) for part in held
        ]
        longest.append(max(sizes) / micro)
        padded += sum(sizes)
        real += sum(lengths)
    assert passes.longest_tokens == pytest.approx(np.mean(longest), rel=0.05)
    assert passes.padded_share == pytest.approx(padded / real - 1, abs=0.05)


def test_memory_follows_the_longest_pass(plan_of: Callable[..., Plan]) -> None:
    short, long = (estimate_memory(counted(plan_of(), lengths=(10, most))) for most in (100, 900))
    assert short is not None
    assert long is not None
    assert short.value.high < long.value.low


def test_on_a_processor_memory_grows_with_the_sizes_that_passes_have(plan_of: Callable[..., Plan]) -> None:
    """Rows of one length make passes of one size, however many they are."""
    alike, unlike = (counted(plan_of(), lengths=lengths) for lengths in ((200,) * 64, tuple(range(72, 328, 4))))
    one_size, many_sizes = (passes.num_forms for plan in (alike, unlike) if (passes := arrange_passes(plan)))
    assert one_size == 1
    assert many_sizes > 10
    memory = [estimate_memory(plan) for plan in (alike, unlike)]
    heaps = [figure.parts["heap"] for figure in memory if figure]
    assert heaps[0] < 0.5 * heaps[1]


def plan_with_beginning(plan_of: Callable[..., Plan], shared: int, *, size: int = 8, **rest: Any) -> Plan:
    batch = Batch(micro_batch_size=size, packing=True, group_by_length=False)
    plan = counted(plan_of(batch=batch, data=DataChoice(max_length=4096), **rest), lengths=(1200,) * 100, share=0.1)
    assert plan.profile is not None
    assert plan.profile.tokens is not None
    tokens = plan.profile.tokens.model_copy(update={"shared_beginning": shared})
    return plan.model_copy(update={"profile": plan.profile.model_copy(update={"tokens": tokens})})


@pytest.mark.parametrize("size", [1, 2, 8])
@pytest.mark.parametrize("shared", [0, 24, 1000])
def test_what_a_pass_computes_is_what_the_trainer_lays_out(
    plan_of: Callable[..., Plan], shared: int, size: int
) -> None:
    """Positions, keys seen, and learned tokens, against rows packed by the trainer."""
    workload = plan_workload(plan_with_beginning(plan_of, shared, size=size))
    assert workload is not None
    ids = np.arange(1200)
    learned = ids >= 1080
    sequences = [(np.where(ids < shared, ids, ids + 10_000 * number), learned) for number in range(size)]
    packed = pack(sequences, pad_token_id=0, device="cpu", beginning_once=True)
    assert packed.layout is not None
    assert workload.computed_tokens == pytest.approx(packed.ids_BT.numel())
    assert workload.peak_tokens == pytest.approx(packed.ids_BT.numel())
    seen = sum(position + 1 for position in packed.layout.positions)
    assert workload.attended_tokens * workload.computed_tokens / 2 == pytest.approx(seen, rel=0.01)
    assert workload.computed_learned_share == pytest.approx(0.1 * 1200 * size / packed.ids_BT.numel())


@pytest.mark.parametrize("size", [1, 4])
def test_a_pass_of_pairs_is_laid_out_as_the_trainer_does(plan_of: Callable[..., Plan], size: int) -> None:
    """Both answers of a pair stand behind the same 900 tokens, of which 24 begin every row."""
    plan = plan_with_beginning(plan_of, 24, size=size)
    assert plan.profile is not None
    assert plan.profile.tokens is not None
    tokens = plan.profile.tokens.model_copy(update={"pairs": PairCounts(shared=0.75, learned=0.3)})
    profile = plan.profile.model_copy(update={"tokens": tokens})
    workload = plan_workload(plan.model_copy(update={"profile": profile, "objective": Dpo()}))
    assert workload is not None
    ids = np.arange(1200)
    learned = ids >= 910
    sequences = [
        (np.where(ids < 24, ids, np.where(ids < 900, ids + 10_000 * pair, ids + 10_000 * pair + 5_000 * side)), learned)
        for pair in range(1, size + 1) for side in range(1, 3)
    ]  # fmt: skip
    packed = pack(sequences, pad_token_id=0, device="cpu", beginning_once=True)
    assert workload.micro_batch_size == packed.num_rows == 2 * size
    assert workload.learned_share == 0.3
    assert workload.computed_tokens == pytest.approx(packed.ids_BT.numel(), abs=8)
    assert workload.peak_tokens == pytest.approx(packed.ids_BT.numel(), abs=8)


def test_a_long_beginning_that_rows_share_makes_a_run_several_times_shorter(plan_of: Callable[..., Plan]) -> None:
    from finetune_exe.estimate.duration import estimate_speed

    once, each = (plan_with_beginning(plan_of, shared) for shared in (1000, 0))
    apart = plan_with_beginning(plan_of, 1000).model_copy(update={"batch": Batch(micro_batch_size=8)})
    speeds = [estimate_speed(plan) for plan in (once, each, apart)]
    memory = [estimate_memory(plan) for plan in (once, each, apart)]
    rate, peak = ([figure.value.mid for figure in figures if figure] for figures in (speeds, memory))
    assert rate[0] > 2.5 * rate[1]
    assert rate[2] == pytest.approx(rate[1], rel=0.01)
    assert peak[0] < 0.6 * peak[1]
    assert peak[2] == pytest.approx(peak[1], rel=0.01)


@pytest.mark.parametrize(("tokens", "shared", "measured"), [(1672, 24, 1.07), (9672, 1024, 3.1)])
def test_time_saved_by_a_shared_beginning_is_what_was_measured(
    plan_of: Callable[..., Plan], tokens: int, shared: int, measured: float
) -> None:
    """Eight rows of instructions, 1,294 of their tokens learned: processor time of a LoRA step of SmolLM2-135M."""
    plan = plan_with_beginning(plan_of, shared)
    workload = plan_workload(plan)
    assert workload is not None
    mean, learned = tokens / 8, 1294 / tokens
    once = replace(workload, mean_tokens=mean, longest_tokens=mean, padded_share=0.0, learned_share=learned)
    rates = [processor_throughput(each, plan.hardware) for each in (once, replace(once, shared_tokens=0))]
    assert rates[0].tokens_per_second.mid / rates[1].tokens_per_second.mid == pytest.approx(measured, rel=0.1)


def test_on_a_gpu_rows_keep_copies_of_keys_that_they_share(plan_of: Callable[..., Plan]) -> None:
    gpus = (Gpu(name="RTX 4090", memory_bytes=24 << 30, bf16=True),)
    hardware = Hardware(cpu="cpu", num_cores=8, memory_bytes=1 << 36, gpus=gpus)
    workload = plan_workload(plan_with_beginning(plan_of, 1000, hardware=hardware))
    assert workload is not None
    shape, more = workload.shape, replace(workload, ours_on_gpu=False)
    kept = 2 * 2 * shape.num_key_value_heads * shape.head_dim
    assert repeated_bytes(workload) == kept
    assert repeated_bytes(more) == 0
    assert footprint(workload).allocated.mid > footprint(more).allocated.mid


def test_a_measured_speed_holds_until_the_settings_change(plan_of: Callable[..., Plan]) -> None:
    from finetune_exe.domain.values import Estimate, Interval
    from finetune_exe.estimate.duration import speed_key
    from finetune_exe.planning.analyze import refresh

    plan = plan_of()
    value = Interval(low=50, mid=61, high=70)
    fields: dict[str, Any] = {"value": value, "unit": "tokens_per_second", "reason": "timed", "source": "here"}
    timed = plan.model_copy(update={"estimates": {"speed": Estimate(**fields, holds_for=speed_key(plan))}})
    assert refresh(timed).estimates["speed"].value == value
    assert refresh(timed).estimates["duration"].parts["training"] > 0
    other = timed.model_copy(update={"batch": Batch(micro_batch_size=2)})
    assert refresh(other).estimates["speed"].value != value
