"""What is to be estimated: runs that somebody recorded, or a configuration wished for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from finetune_exe.domain.method_kinds import MethodKind
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.plan_yaml import apply_settings
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.recorded import RecordedRun


def read_runs(path: Path) -> Iterator[RecordedRun]:
    """Read recorded runs, one JSON object a line; blank lines are skipped.

    Raises:
        FineTuneError: D07 where the file is missing, R01 for a line that is no run.
    """
    try:
        text = path.read_text("utf-8-sig", errors="replace")
    except OSError as fault:
        raise FineTuneError(
            "D07",
            what="the file of runs cannot be read",
            where=str(path),
            why=fault.strerror or type(fault).__name__,
            fix="give a file with one JSON object a line",
        ) from fault
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _read_run(line, f"{path}, line {number}")


def _read_run(line: str, where: str) -> RecordedRun:
    try:
        return msgspec.convert(json.loads(line), RecordedRun)
    except (json.JSONDecodeError, RecursionError, msgspec.ValidationError) as fault:
        raise FineTuneError(
            "R01",
            what="a line is no recorded run",
            where=where,
            why=str(fault),
            fix='write one JSON object a line, with an "id" and the columns of docs/guides/estimate.md',
        ) from fault


def wished_plan(model: str, *, hardware: str | None, method: MethodKind, settings: Sequence[str] = ()) -> Plan:
    """Make a plan of exactly what was named, without advice: the rest is at its defaults.

    Raises:
        FineTuneError: H01 for an unknown GPU, M01 for an unknown model, C04 for a setting that is none.
    """
    from finetune_exe.planning.model import describe_model
    from finetune_exe.workflow.plans import bare_plan, find_hardware

    machine = find_hardware(hardware)
    plan = bare_plan(describe_model(model), task="an estimate", hardware=machine, reason="you named it")
    dtype = "bfloat16" if machine.computes_bf16 else "float32"
    named = (f"method.kind={method}", f"precision.base_dtype={dtype}", "batch.micro_batch_size=1")
    return apply_settings(apply_settings(plan, named), settings)
