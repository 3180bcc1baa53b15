"""Which hardware a plan's training can be timed on before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tiny import write_model, write_rows

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.task import TaskSpec
from finetune_exe.domain.values import Estimate, Gpu, Hardware, Interval
from finetune_exe.errors import FineTuneError
from finetune_exe.models import load
from finetune_exe.training import matrix_rate
from finetune_exe.units import GIB
from finetune_exe.workflow import plans
from finetune_exe.workflow.plans import make_plan

GPU = Gpu(name="NVIDIA H100 80GB HBM3", memory_bytes=80 * GIB, bf16=True)


def machine(*gpus: Gpu) -> Hardware:
    return Hardware(cpu="a processor", num_cores=4, memory_bytes=64 * GIB, gpus=gpus)


@pytest.fixture
def spec(tmp_path: Path) -> TaskSpec:
    base, rows = write_model(tmp_path / "tiny"), write_rows(tmp_path / "rows.jsonl")
    return TaskSpec(description="answer", data_paths=(str(rows),), model=str(base))


def test_the_one_gpu_of_this_machine_is_timed_by_training_steps(
    spec: TaskSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(plan: Plan, tokenizer: object) -> Estimate:
        interval = Interval(low=70_000, mid=77_000, high=80_000)
        return Estimate(value=interval, unit="tokens_per_second", reason="timed", source="probe")

    monkeypatch.setattr(plans, "find_hardware", lambda _: machine(GPU))
    monkeypatch.setattr(load, "pick_device", lambda: "cuda")
    monkeypatch.setattr(plans, "_timed", timed)
    monkeypatch.setattr(matrix_rate, "measure_matrix_rate", None)
    assert make_plan(spec, probe=True).estimates["speed"].value.mid == 77_000
    assert make_plan(spec).estimates["speed"].value.mid != 77_000


@pytest.mark.parametrize(
    ("planned", "here", "device"),
    [(machine(GPU), machine(), "cpu"), (machine(GPU), machine(GPU), "cpu"), (machine(GPU, GPU), machine(GPU, GPU), "cuda")],
    ids=["a GPU that is elsewhere", "a GPU that PyTorch does not see", "several GPUs"],
)  # fmt: skip
def test_what_cannot_be_timed_here_is_refused(
    planned: Hardware, here: Hardware, device: str, spec: TaskSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "find_hardware", lambda _: here)
    monkeypatch.setattr(load, "pick_device", lambda: device)
    with pytest.raises(FineTuneError) as raised:
        make_plan(spec, hardware=planned, probe=True)
    assert raised.value.code == "C11"
    assert "--probe" in raised.value.where
