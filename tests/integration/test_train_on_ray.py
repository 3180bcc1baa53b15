"""Two processes on a Ray cluster of two nodes inside one machine: one on each, and one run of one process's losses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import write_rows

from finetune_exe.domain.plan_yaml import write_plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.domain.task import TaskSpec
from finetune_exe.domain.values import Hardware
from finetune_exe.errors import BAD_DATA, OK, FineTuneError
from finetune_exe.workflow.launchers import LAUNCHERS, Job, ray_cluster
from finetune_exe.workflow.plans import make_plan

ray = pytest.importorskip("ray", reason="ray is not installed")
ROOT = Path(__file__).resolve().parents[2]
PATIENT = {"health_check_timeout_ms": 60_000, "health_check_period_ms": 30_000, "health_check_failure_threshold": 10}
"""A machine that is busy with other tests answers late; Ray would then take its own nodes for dead."""
MACHINE = Hardware(cpu="test", num_cores=1, memory_bytes=8 << 30)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_raylet_start_wait_time_s"] = "120"  # noqa: SIM112 - as Ray spells it
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "src"), before]))
    made = Cluster(initialize_head=True, head_node_args={
        "num_cpus": 1, "include_dashboard": False, "_system_config": PATIENT,
    })  # fmt: skip
    made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False, configure_logging=False)
    yield made
    ray.shutdown()
    made.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def job(folder: Path, model: Path, *, processes: int = 2, rows: int = 60) -> Job:
    data = write_rows(folder / "rows.jsonl", count=rows)
    spec = TaskSpec(description="answer", data_paths=(str(data),), model=str(model))
    settings = ("precision.base_dtype=float32", "schedule.max_steps=3", "batch.micro_batch_size=2",
                "batch.gradient_accumulation_steps=1", "parallelism.kind=ddp", f"parallelism.num_gpus={processes}")  # fmt: skip
    plan = make_plan(spec, hardware=MACHINE, settings=settings)
    write_plan(plan, folder / "plan.yaml")
    return Job(plan=folder / "plan.yaml", run=folder / "run", options=(), processes=processes, hardware=MACHINE,
               here=lambda: 1)  # fmt: skip


def test_two_nodes_train_together(tmp_path: Path, tiny_model: Path) -> None:
    notes: list[str] = []
    assert LAUNCHERS["ray"].launch(job(tmp_path, tiny_model), notes.append) == OK
    assert TrainingRun.read(tmp_path / "run" / "run.json").num_steps == 3
    assert notes[0].startswith("2 processes meet at ")


def test_what_the_first_process_refuses_is_told_with_its_status(tmp_path: Path, tiny_model: Path) -> None:
    notes: list[str] = []
    made = job(tmp_path, tiny_model)
    (tmp_path / "rows.jsonl").write_text("")
    assert LAUNCHERS["ray"].launch(made, notes.append) == BAD_DATA
    assert any("error[FT-D" in note for note in notes)


def test_a_cluster_that_is_too_small_is_refused(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "ROOM_SECONDS", 0.0)
    with pytest.raises(FineTuneError, match=r"error\[FT-T23\]: 4 processes want a CPU each, and the cluster has 2"):
        LAUNCHERS["ray"].launch(job(tmp_path, tiny_model, processes=4), print)
