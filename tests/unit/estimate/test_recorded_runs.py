"""Recorded runs: read by meaning, bounded by physics, and held against published measurements."""

from __future__ import annotations

import csv
import statistics
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_exe.estimate.footprint import footprint
from finetune_exe.estimate.recorded import RecordedRun, read_workload
from finetune_exe.estimate.targets import read_targets
from finetune_exe.estimate.throughput import Refusal, Throughput, throughput
from finetune_exe.estimate.workload import Adapters, FullTraining, Workload
from finetune_exe.units import GIB

TRUTH = Path(__file__).resolve().parents[4] / "shared" / "truth" / "measurements.dev.csv"
WORDS = st.sampled_from(
    [
        "",
        None,
        "yes",
        "no",
        "unknown",
        "none",
        "?",
        "bf16",
        "fp32",
        "nf4",
        "q+v",
        0,
        3,
        "0",
        "1e9",
        "flash",
        1e308,
        "9e99",
    ]
)


def workload_of(**columns: str | int | float | None) -> Workload:
    given_columns = {"model": "llama 3.1 8b", "gpu_type": "A100-80GB", "micro_batch": 1, "seq_len": 2048, **columns}
    workload = read_workload(RecordedRun(id="x", **given_columns))
    assert workload is not None
    return workload


def rate(workload: Workload) -> float:
    answer = throughput(workload)
    assert isinstance(answer, Throughput)
    return answer.tokens_per_second.mid


@settings(max_examples=150, deadline=None)
@given(
    columns=st.fixed_dictionaries(
        {name: WORDS for name in RecordedRun.__struct_fields__ if name not in ("id", "model")}
    )
)
def test_any_text_in_any_column_gives_an_estimate_above_its_floor(columns: dict[str, str | int | float | None]) -> None:
    workload = read_workload(RecordedRun(id=1, model="qwen2.5 0.5b", **columns))
    assert workload is not None
    memory = footprint(workload)
    assert memory.floor <= memory.allocated.mid <= memory.reserved.mid <= memory.device.mid
    assert sum(memory.parts.values()) == pytest.approx(memory.allocated.mid)
    for size in (memory.allocated, memory.reserved, memory.device):
        assert min(memory.floor, size.mid) <= size.low
    answer = throughput(workload)
    assert isinstance(answer, Refusal) or 0 < answer.tokens_per_second.low < answer.tokens_per_second.high


def test_pure_bfloat16_adamw_takes_ten_bytes_a_weight() -> None:
    """fms-acceleration on A100: Llama-3-8B, 4 x 4096 tokens, 74.802 GiB allocated."""
    workload = workload_of(
        model="Llama-3-8B", method="full", base_dtype="bfloat16", trainable_dtype="bfloat16", micro_batch=4,
        optimizer="adamw-torch", seq_len=4096, grad_checkpointing="yes", attention="flash2", fused_ce="liger",
    )  # fmt: skip
    memory = footprint(workload)
    assert memory.phase == "optimizer step"
    assert memory.allocated.mid / GIB == pytest.approx(74.802, rel=1e-3)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"grad_checkpointing": "yes"}, {"grad_checkpointing": "no"}),
        ({"grad_checkpointing": "yes + offload"}, {"grad_checkpointing": "yes"}),
        ({"fused_ce": "liger"}, {"fused_ce": "none"}),
        ({"attention": "flash"}, {"attention": "eager"}),
        ({"base_dtype": "nf4"}, {"base_dtype": "bf16"}),
        ({"base_dtype": "nf4-dq"}, {"base_dtype": "nf4", "trainable_dtype": "bf16"}),
        ({"lora_targets": "q_proj,v_proj"}, {"lora_targets": "all-linear"}),
        ({"method": "lora"}, {"method": "full"}),
        ({"method": "full", "optimizer": "adamw 8bit"}, {"method": "full", "optimizer": "adamw"}),
        ({"method": "full", "parallel": "fsdp", "n_gpus": 8}, {"method": "full", "parallel": "ddp", "n_gpus": 8}),
        ({"compile": "yes"}, {"compile": "no"}),
    ],
)  # fmt: skip
def test_each_column_moves_memory_the_right_way(less: dict[str, str | int], more: dict[str, str | int]) -> None:
    shared = {"grad_checkpointing": "no", "trainable_dtype": "fp32", "fused_ce": "none"}
    small, large = (footprint(workload_of(**{**shared, **columns})) for columns in (less, more))
    assert small.allocated.mid < large.allocated.mid


def test_speed_has_a_floor_of_launches_and_a_ceiling_of_the_peak() -> None:
    short, long = (
        workload_of(method="lora", grad_checkpointing="no", seq_len=length, seq_mean=length) for length in (16, 4096)
    )
    assert rate(short) < 0.1 * rate(long)
    assert long.gpu is not None
    assert rate(long) * 4 * 8.03e9 < 1e12 * long.gpu.bf16_tflops
    assert isinstance(throughput(workload_of(gpu_type="48GB GPU")), Refusal)


def test_nothing_is_said_of_a_model_without_name_or_size_and_more_doubt_of_one_with_size_alone() -> None:
    assert read_workload(RecordedRun(id=1, model="nobody-knows-it")) is None
    named, sized = workload_of(), workload_of(model="nobody-knows-it", params_b="8.03")
    assert "shape" in sized.guessed - named.guessed
    assert footprint(sized).allocated.mid == pytest.approx(footprint(named).allocated.mid, rel=0.15)


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("q_proj+v_proj", {"query", "value"}),
        ("c_attn", {"query", "key", "value"}),
        ("q+k+v+o+mlp+head", {"query", "key", "value", "output", "gate", "up", "down", "head"}),
        ("gate_proj, up_proj, down_proj", {"gate", "up", "down"}),
        ("", None),
        ("who knows", None),
    ],
)
def test_targets_are_read_by_meaning(text: str, targets: set[str] | None) -> None:
    assert read_targets(text) == (None if targets is None else frozenset(targets))


def test_methods_are_read_by_meaning() -> None:
    assert isinstance(workload_of(method="full").training, FullTraining)
    prompt = workload_of(method="prompt").training
    assert isinstance(prompt, Adapters)
    assert prompt.virtual_tokens > 0
    double = workload_of(method="qlora", base_dtype="nf4-dq")
    assert (double.storage, workload_of(method="qlora-gptq4").storage) == ("nf4-dq", "int4")


def test_an_estimate_takes_less_than_five_milliseconds() -> None:
    workload_of()
    started = time.process_time()
    for _ in range(20):
        workload = workload_of(method="qlora", base_dtype="nf4")
        footprint(workload)
        throughput(workload)
    assert (time.process_time() - started) / 20 < 0.005


def test_published_measurements_are_met() -> None:
    if not TRUTH.exists():
        pytest.skip("the published measurements are not on this machine")
    memory, speed, inside = list[float](), list[float](), list[bool]()
    for row in csv.DictReader(TRUTH.read_text().splitlines()):
        workload = read_workload(RecordedRun(**{name: row[name] or None for name in RecordedRun.__struct_fields__}))
        assert workload is not None
        if row["single_gpu_mem_high"] == "1" and "allocated" in row["mem_kind"]:
            guess, truth = footprint(workload).allocated, float(row["peak_mem_gib"]) * GIB
            memory.append(abs(guess.mid / truth - 1))
            inside.append(guess.contains(truth))
        answer = throughput(workload)
        if row["tokens_per_s_per_gpu"] and row["confidence"] != "low" and isinstance(answer, Throughput):
            speed.append(abs(answer.tokens_per_second.mid / float(row["tokens_per_s_per_gpu"]) - 1))
    assert statistics.median(memory) < 0.06
    assert statistics.mean(inside) > 0.85
    assert statistics.median(speed) < 0.15
