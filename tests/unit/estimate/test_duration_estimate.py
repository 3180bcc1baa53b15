"""Speed and duration: published throughput, measured speed, directions."""

from collections.abc import Callable
from typing import Literal

import pytest

from finetune_exe.domain.plan import Checkpoints, Parallelism, Plan, Qlora, Schedule
from finetune_exe.domain.values import Estimate, Hardware, Interval
from finetune_exe.estimate.duration import estimate_duration, estimate_speed
from finetune_exe.estimate.planned import plan_workload
from finetune_exe.estimate.throughput import Throughput, throughput
from finetune_exe.planning.hardware import parse_hardware

AMX = Hardware(cpu="cpu", num_cores=2, memory_bytes=1 << 36, cpu_features=("avx512f", "avx512_bf16", "amx_bf16"))


def speed_of(plan: Plan) -> Interval:
    speed = estimate_speed(plan)
    assert speed is not None
    return speed.value


@pytest.mark.parametrize(("half", "measured"), [(True, 331), (False, 129)])
def test_the_measured_speed_on_two_amx_cores_is_inside(
    plan_of: Callable[..., Plan], half: bool, measured: float
) -> None:
    assert speed_of(plan_of(hardware=AMX, half=half)).contains(measured)


def test_the_published_speed_of_llama_8b_on_an_h100_is_inside(plan_of: Callable[..., Plan]) -> None:
    """NVIDIA NeMo Automodel performance summary: 12,473 tokens/s, LoRA, packed rows of 4,096 tokens, one H100."""
    plan = plan_of("llama 3.1 8b", hardware=parse_hardware("H100"), rows=1, max_length=4096)
    assert speed_of(plan.model_copy(update={"profile": None})).contains(12_473)


@pytest.mark.parametrize(
    ("slower", "faster"),
    [
        ({"checkpointing": True}, {"checkpointing": False}),
        ({"full": True}, {"full": False}),
        ({"half": False}, {"half": True}),
        ({"model": "llama 3.2 1b"}, {"model": "embedded"}),
    ],
)
def test_every_setting_moves_it_the_right_way(
    plan_of: Callable[..., Plan], slower: dict[str, object], faster: dict[str, object]
) -> None:
    assert speed_of(plan_of(**slower)).mid < speed_of(plan_of(**faster)).mid


def test_a_measured_speed_is_used_as_it_is(plan_of: Callable[..., Plan]) -> None:
    measured = Estimate(
        value=Interval(low=90, mid=100, high=110), unit="tokens_per_second", reason="probe", source="probe"
    )
    plan = plan_of(schedule=Schedule(max_steps=10))
    duration = estimate_duration(plan, speed=measured)
    assert duration is not None
    assert duration.parts["training"] == pytest.approx(10 * 4 * (225 + 10) / 100, abs=0.1)  # 10 of the template
    assert sum(duration.parts.values()) == pytest.approx(duration.value.mid)


def test_steps_of_several_processes_take_the_rows_of_all(plan_of: Callable[..., Plan]) -> None:
    """At one speed of all together, as many steps with four times the rows take four times as long."""
    measured = Estimate(
        value=Interval(low=90, mid=100, high=110), unit="tokens_per_second", reason="probe", source="probe"
    )
    found = []
    for parallelism in (Parallelism(), Parallelism(kind="ddp", num_gpus=4)):
        duration = estimate_duration(plan_of(schedule=Schedule(max_steps=10), parallelism=parallelism), speed=measured)
        assert duration is not None
        found.append(duration.parts["training"])
    assert found[1] == pytest.approx(4 * found[0])


def test_the_rehearsal_is_one_pass_of_the_longest_rows(plan_of: Callable[..., Plan]) -> None:
    one, four = (estimate_duration(plan_of(rows=size)) for size in (1, 4))
    assert one is not None
    assert four is not None
    speeds = [speed_of(plan_of(rows=size)).mid for size in (1, 4)]
    assert four.parts["rehearsal"] * speeds[1] == pytest.approx(4 * one.parts["rehearsal"] * speeds[0], rel=0.05)
    assert 1 < one.parts["rehearsal"] * speeds[0] / 225 < 2  # learned from once, and read once


def test_a_full_checkpoint_was_measured_with_its_time(plan_of: Callable[..., Plan]) -> None:
    """SmolLM2-135M, AdamW, two EPYC cores: 1.8 GB written, hashed and synced in 5.75 s."""
    plan = plan_of(full=True, schedule=Schedule(epochs=1.0), checkpoints=Checkpoints(evaluations_per_epoch=1.0))
    duration = estimate_duration(plan)
    assert duration is not None
    assert duration.parts["saving"] / 2 == pytest.approx(5.75, rel=0.3)  # in the rehearsal, and the best


@pytest.mark.parametrize(("rank", "measured"), [(16, 3.8), (64, 7.2)])
def test_offsetting_rounding_was_measured_with_its_time(
    plan_of: Callable[..., Plan], rank: int, measured: float
) -> None:
    """SmolLM2-135M over bfloat16 weights, one core of an EPYC with AVX-512 and bfloat16."""
    core = Hardware(cpu="cpu", num_cores=1, memory_bytes=1 << 34, cpu_features=("avx512f", "avx512_bf16"))
    plan = plan_of(hardware=core)
    without, with_it = (
        estimate_duration(plan.model_copy(update={"method": Qlora(lora_rank=rank, offset_rounding=offset)}))
        for offset in (False, True)
    )
    assert without is not None
    assert with_it is not None
    assert "offsetting" not in without.parts
    assert with_it.parts["offsetting"] == pytest.approx(measured, rel=0.25)
    assert with_it.value.low > without.value.low
    assert with_it.value.mid - without.value.mid == pytest.approx(with_it.parts["offsetting"], abs=0.11)
    assert with_it.value.high - without.value.high > measured


def network_seconds(plan_of: Callable[..., Plan], gpus: str, kind: Literal["ddp", "fsdp"]) -> float:
    hardware = parse_hardware(gpus)
    parallelism = Parallelism(kind=kind, num_gpus=len(hardware.gpus))
    workload = plan_workload(plan_of("llama 3.1 8b", hardware=hardware, full=True, parallelism=parallelism))
    assert workload is not None
    pace = throughput(workload)
    assert isinstance(pace, Throughput)
    return pace.parts["network"]


def test_gpus_wait_for_each_other_as_long_as_their_links_take(plan_of: Callable[..., Plan]) -> None:
    """Weights twice and gradients once of 8.03 billion, 2 bytes each, at 70 GB/s as measured on A100."""
    a100 = network_seconds(plan_of, "8xA100", "fsdp")
    assert a100 == pytest.approx(3 * 2 * 8.03 / 70, rel=0.01)
    assert network_seconds(plan_of, "8xH100", "fsdp") == pytest.approx(a100 * 300 / 450)
    assert network_seconds(plan_of, "8xB200", "fsdp") == pytest.approx(a100 * 300 / 900)
    assert network_seconds(plan_of, "8xL40S", "fsdp") == pytest.approx(a100 * 300 / 31)
    assert network_seconds(plan_of, "8xA100", "ddp") == pytest.approx(a100 / 3)
    for gpu, within, between in (("A100", 300, 200), ("H100", 450, 400), ("L40S", 31, 12.5)):
        near, far = (network_seconds(plan_of, f"{count}x{gpu}", "fsdp") for count in (8, 16))
        assert far / near == pytest.approx(within / between)


def test_twice_the_epochs_take_twice_the_training(plan_of: Callable[..., Plan]) -> None:
    one, two = (estimate_duration(plan_of(schedule=Schedule(epochs=epochs))) for epochs in (1.0, 2.0))
    assert one is not None
    assert two is not None
    assert two.parts["training"] == pytest.approx(2 * one.parts["training"], rel=1e-3)


def test_nothing_is_said_without_dimensions(plan_of: Callable[..., Plan]) -> None:
    assert estimate_speed(plan_of("someone/unknown-model")) is None
    assert estimate_speed(plan_of(hardware=parse_hardware("24"))) is None


def test_without_data_it_is_that_of_the_rows_there_will_be(plan_of: Callable[..., Plan]) -> None:
    """Usual rows have 481 characters, at four a token; the plan's own have 900."""
    plan = plan_of(schedule=Schedule(epochs=1.0)).model_copy(update={"profile": None})
    measured = Estimate(
        value=Interval(low=100, mid=100, high=100), unit="tokens_per_second", reason="probe", source="probe"
    )

    def trained(rows: int | None, kind: str = "generation") -> float:
        task = plan.task.model_copy(update={"num_rows": rows, "type": kind})
        duration = estimate_duration(plan.model_copy(update={"task": task}), speed=measured)
        assert duration is not None
        assert duration.value.high > 3 * duration.value.mid
        return duration.parts["training"]

    assert trained(1000) == pytest.approx(800 * 481 / 4 / 100, rel=1e-3)
    assert trained(3000) == pytest.approx(3 * trained(1000), rel=1e-3)
    assert trained(None) == pytest.approx(trained(plan.data_needs.recommended_samples), rel=1e-3)
    assert trained(1000, "classification") == pytest.approx(800 * 119 / 4 / 100, rel=1e-3)
