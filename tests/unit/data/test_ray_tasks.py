"""Preparing on a Ray cluster of two nodes inside one machine: same bytes as here, and a killed worker costs nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.data.plans import alpaca_rows, plan_for, write_jsonl

from finetune_exe.data import ray_tasks, spool
from finetune_exe.data.prepare import prepare
from finetune_exe.data.shards import ShardJob
from finetune_exe.errors import FineTuneError
from finetune_exe.text.tokenizer import ChatTokenizer

ray = pytest.importorskip("ray", reason="ray is not installed")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    root = Path(__file__).resolve().parents[3]
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), str(root / "src"), before]))
    os.environ["RAY_raylet_start_wait_time_s"] = "120"  # noqa: SIM112 - as Ray spells it
    made = Cluster(initialize_head=True, head_node_args={
        "num_cpus": 1, "include_dashboard": False,
        "_system_config": {"health_check_timeout_ms": 60_000, "health_check_failure_threshold": 10},
    })  # fmt: skip
    made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()
    made.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_two_nodes_and_a_killed_worker_give_the_bytes_of_one_process(
    tmp_path: Path, tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "SHARD_ROWS", 8)
    plan = plan_for(write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(60)))
    prepare(plan, tokenizer, tmp_path / "here", num_workers=1)
    killed, nodes = tmp_path / "killed", tmp_path / "nodes"
    nodes.mkdir()
    real = ray_tasks._encode_there

    def dies_once(text: str) -> FineTuneError | None:
        (nodes / ray.get_runtime_context().get_node_id()).touch()
        if not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return real(text)

    monkeypatch.setattr(ray_tasks, "_encode_there", dies_once)
    prepare(plan, tokenizer, tmp_path / "there", launch="ray")
    assert killed.exists()
    assert len(list(nodes.iterdir())) == 2, "both nodes worked"
    assert content(tmp_path / "here") == content(tmp_path / "there")


def test_what_a_task_was_refused_is_said_as_it_was_there(tmp_path: Path) -> None:
    job = ShardJob(
        rows="", rows_digest="", drawn=None, num_drawn=0, shards=str(tmp_path), model=str(tmp_path / "none"), chat_template=None,
        tokenizer_digest="", template_digest="", max_length=9, on_too_long="drop", format_name="alpaca",
    )  # fmt: skip
    told: list[Any] = []
    with pytest.raises(FineTuneError, match="FT-M02"):
        ray_tasks.encode_on_ray([job], num_workers=None, told=told.append)
    assert not told
