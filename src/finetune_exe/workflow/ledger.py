"""The local ledger: what was predicted of each finished run and what it measured, one JSON line each."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.estimate.calibration import LedgerEntry, Quantity, calibrated


def ledger_path() -> Path:
    """Give the ledger's file: $FINETUNE_EXE_LEDGER, else one in the user's data folder."""
    given = os.environ.get("FINETUNE_EXE_LEDGER")
    if given:
        return Path(given)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "finetune-exe" / "ledger.jsonl"


def read_ledger(path: Path) -> list[LedgerEntry]:
    """Read all entries; a line that is none is passed over, as after a crash in the middle of one."""
    if not path.is_file():
        return []
    entries = []
    for line in path.read_bytes().splitlines():
        try:
            entries.append(msgspec.json.decode(line, type=LedgerEntry))
        except (msgspec.DecodeError, msgspec.ValidationError):
            continue
    return entries


def append_to_ledger(path: Path, plan: Plan, run: TrainingRun, *, day: str) -> None:
    """Add a finished run; a ledger that cannot be written is no reason to fail a run."""
    line = msgspec.json.encode(_entry(plan, run, day)) + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as out:
            out.write(line)
    except OSError:
        return


def calibrate_plan(plan: Plan, ledger: list[LedgerEntry]) -> Plan:
    """Correct a plan's predictions of memory, speed and duration by the ledger, where enough runs are alike."""
    estimates = dict(plan.estimates)
    for name in ("memory", "speed", "duration"):
        if name in estimates:
            estimates[name] = calibrated(
                estimates[name], name, method=plan.method.kind, processor=plan.hardware.processor, ledger=ledger
            )
    return plan.model_copy(update={"estimates": estimates})


def _entry(plan: Plan, run: TrainingRun, day: str) -> LedgerEntry:
    predicted: dict[Quantity, float] = {}
    measured: dict[Quantity, float] = {}
    for score in run.scores:
        match score.name:
            case "memory" | "speed" | "duration" as name:
                estimate = plan.estimates[name]
                predicted[name] = estimate.value.mid - estimate.parts.get("calibration", 0.0)
                measured[name] = score.measured
    return LedgerEntry(
        date=day,
        model=plan.model.name,
        method=plan.method.kind,
        processor=plan.hardware.processor,
        base_dtype=plan.precision.base_dtype,
        micro_batch=plan.batch.micro_batch_size,
        seq_len=plan.data.max_length,
        grad_checkpointing=plan.precision.gradient_checkpointing,
        predicted=predicted,
        measured=measured,
    )
