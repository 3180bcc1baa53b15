"""The ledger: what finished runs leave is read again, survives damage, and corrects the next plan."""

from pathlib import Path

import msgspec
import pytest

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.task import TaskSpec
from finetune_exe.estimate.calibration import LedgerEntry
from finetune_exe.workflow.ledger import calibrate_plan, ledger_path, read_ledger
from finetune_exe.workflow.plans import make_plan


def entry(plan: Plan, ratio: float) -> LedgerEntry:
    return LedgerEntry(
        date="2026-11-22", model="m", method=plan.method.kind, processor=plan.hardware.cpu, base_dtype="bfloat16",
        micro_batch=1, seq_len=8, grad_checkpointing=False,
        predicted={"memory": 100.0}, measured={"memory": 100.0 * ratio},
    )  # fmt: skip


@pytest.fixture
def plan() -> Plan:
    return make_plan(TaskSpec(description="write docstrings", gpu="cpu"))


def test_a_torn_line_is_passed_over(tmp_path: Path, plan: Plan) -> None:
    file = tmp_path / "ledger.jsonl"
    line = msgspec.json.encode(entry(plan, 2.0))
    file.write_bytes(line + b"\n" + line[: len(line) // 2] + b"\n" + line + b"\n")
    assert read_ledger(file) == [entry(plan, 2.0)] * 2
    assert read_ledger(tmp_path / "none") == []


def test_the_plan_follows_the_ledger_and_says_so(plan: Plan) -> None:
    corrected = calibrate_plan(plan, [entry(plan, 1.4)] * 20)
    before, after = plan.estimates["memory"], corrected.estimates["memory"]
    assert after.value.mid == pytest.approx(1.4 * before.value.mid, rel=0.03)
    assert "20 finished runs" in after.reason
    assert corrected.estimates["speed"] == plan.estimates["speed"]


def test_the_ledger_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FINETUNE_EXE_LEDGER", str(tmp_path / "a.jsonl"))
    assert ledger_path() == tmp_path / "a.jsonl"
    monkeypatch.delenv("FINETUNE_EXE_LEDGER")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert ledger_path() == tmp_path / "finetune-exe" / "ledger.jsonl"
