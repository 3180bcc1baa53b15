"""Estimates of many recorded runs, or of one configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from finetune_exe.domain.method_kinds import MethodKind
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.plan_yaml import apply_settings
from finetune_exe.domain.values import Estimate, Interval
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.duration import estimate_cost, estimate_duration
from finetune_exe.estimate.footprint import Footprint, footprint
from finetune_exe.estimate.memory import Resident, resident_memory
from finetune_exe.estimate.planned import plan_workload
from finetune_exe.estimate.processor import processor_throughput
from finetune_exe.estimate.recorded import RecordedRun, read_workload
from finetune_exe.estimate.rows import expected_rows
from finetune_exe.estimate.throughput import Refusal, Throughput, throughput
from finetune_exe.estimate.workload import Workload
from finetune_exe.units import GIB, MIB, format_gib


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One configuration with its estimates."""

    plan: Plan
    workload: Workload
    memory: Footprint
    process: Resident | None
    """Memory of the whole process, on a CPU."""
    speed: Throughput | Refusal
    duration: Estimate | None
    """Of the whole run, where there are data to run over."""
    cost: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEstimate:
    """What one recorded run is expected to take."""

    id: str | int
    workload: Workload | None
    memory: Footprint | None
    speed: Throughput | Refusal

    @property
    def refused(self) -> str | None:
        """Why part of the answer is missing."""
        return self.speed.reason if isinstance(self.speed, Refusal) else None


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


def estimate_run(run: RecordedRun) -> RunEstimate:
    """Estimate memory and speed of one recorded run."""
    workload = read_workload(run)
    if workload is None:
        unknown = Refusal(reason="neither the model is known nor its size given")
        return RunEstimate(id=run.id, workload=None, memory=None, speed=unknown)
    return RunEstimate(id=run.id, workload=workload, memory=footprint(workload), speed=throughput(workload))


def run_contract(estimate: RunEstimate) -> dict[str, object]:
    """Put an estimate into the form that other programs read; memory in GiB of one GPU."""
    return {
        "id": estimate.id,
        **_figures(estimate.memory, estimate.speed),
        "guessed": sorted(estimate.workload.guessed) if estimate.workload else [],
        "refused": estimate.refused,
    }


def _figures(memory: Footprint | None, speed: Throughput | Refusal) -> dict[str, object]:
    return {
        "memory": None
        if memory is None
        else {
            "allocated_gib": _gib(memory.allocated),
            "reserved_gib": _gib(memory.reserved),
            "device_gib": _gib(memory.device),
            "floor_gib": round(memory.floor / GIB, 3),
            "parts": {name: round(size / GIB, 3) for name, size in memory.parts.items()},
            "peak_in": memory.phase,
        },
        "speed": None
        if isinstance(speed, Refusal)
        else {
            "tokens_per_second_per_gpu": _rounded(speed.tokens_per_second),
            "parts": {name: round(seconds, 5) for name, seconds in speed.parts.items()},
        },
    }


def _gib(size: Interval) -> dict[str, float]:
    return _rounded(Interval(low=size.low / GIB, mid=size.mid / GIB, high=size.high / GIB))


def _rounded(interval: Interval) -> dict[str, float]:
    return {"mid": round(interval.mid, 3), "low": round(interval.low, 3), "high": round(interval.high, 3)}


def estimate_configuration(plan: Plan) -> Configuration:
    """Estimate what a plan's run takes; without data, rows are as long as the plan allows.

    Raises:
        FineTuneError: M05 where the model's dimensions are unknown.
    """
    workload = plan_workload(plan)
    if workload is None:
        raise FineTuneError(
            "M05",
            what=f"the dimensions of {plan.model.reference!r} are not known",
            where="the base model",
            why="memory and speed follow from them",
            fix="give a model that is known by name, or a folder with its config.json",
        )
    on_cpu = not plan.hardware.gpus
    duration = estimate_duration(plan) if expected_rows(plan) else None
    return Configuration(
        plan=plan,
        workload=workload,
        memory=footprint(workload),
        process=resident_memory(workload) if on_cpu else None,
        speed=processor_throughput(workload, plan.hardware) if on_cpu else throughput(workload),
        duration=duration,
        cost=estimate_cost(plan, duration),
    )


def configuration_contract(configuration: Configuration) -> dict[str, object]:
    """Put a configuration's estimates into the form that other programs read."""
    speed = configuration.speed
    return {
        "model": configuration.plan.model.name,
        "method": configuration.plan.method.kind,
        **_figures(configuration.memory, speed),
        "process_gib": _gib(configuration.process.total) if configuration.process else None,
        "duration": configuration.duration.model_dump(mode="json") if configuration.duration else None,
        "cost": configuration.cost.model_dump(mode="json") if configuration.cost else None,
        "refused": speed.reason if isinstance(speed, Refusal) else None,
    }


def show_configuration(configuration: Configuration) -> str:
    """Write a configuration's estimates as a table of parts, then the totals with their 90 % intervals."""
    from finetune_exe.report.boxes import aligned_table
    from finetune_exe.report.numbers import format_interval

    plan, memory, speed = configuration.plan, configuration.memory, configuration.speed
    hardware = plan.hardware.gpus[0].name if plan.hardware.gpus else plan.hardware.cpu
    totals = (
        [("process", configuration.process.total)]
        if configuration.process
        else [("allocated", memory.allocated), ("reserved", memory.reserved), ("on the device", memory.device)]
    )
    parts = configuration.process.parts if configuration.process else memory.parts
    rows = [(name, format_gib(size)) for name, size in parts.items() if size >= MIB]
    batch = f"{plan.batch.micro_batch_size} x {configuration.workload.longest_tokens:,.0f} tokens"
    lines = [
        f"{plan.model.name}, {plan.method.kind}, {batch}, on {hardware}",
        "",
        *aligned_table(("Memory at the peak", "Size"), rows),
        "",
        *(f"{name + ':':15}{format_interval(size, 'bytes')}" for name, size in totals),
        f"{'peak in:':15}{memory.phase}",
        *_room(configuration),
    ]
    if isinstance(speed, Refusal):
        lines.append(f"{'speed:':15}not said: {speed.reason}")
    else:
        each = " on each GPU" if configuration.workload.sharding.num_gpus > 1 else ""
        lines.append(f"{'speed:':15}{format_interval(speed.tokens_per_second, 'tokens_per_second')}{each}")
        lines.append(f"{'':15}{speed.reason}")
    if configuration.duration:
        lines.append(f"{'duration:':15}{format_interval(configuration.duration.value, 'seconds')}")
        lines.append(f"{'':15}{configuration.duration.reason}")
    if configuration.cost:
        lines.append(f"{'cost:':15}{format_interval(configuration.cost.value, 'usd')}")
    return "\n".join(lines)


def _room(configuration: Configuration) -> list[str]:
    """Say whether one GPU has room for it, what would make room, and that other GPUs which were named stay idle."""
    plan = configuration.plan
    if not plan.hardware.gpus:
        return []
    there, need = plan.hardware.gpus[0].memory_bytes, configuration.memory.device
    verdict = "does not fit" if need.low > there else "may not fit" if need.high > there else "fits"
    lines = [f"{'room:':15}{format_gib(there)} on one GPU: it {verdict}"]
    if verdict != "fits":
        lines += [f"{'':15}{way}" for way in _ways_to_fit(plan)]
    idle = len(plan.hardware.gpus) - plan.parallelism.num_gpus
    if idle > 0:
        both = f"--set parallelism.kind=fsdp --set parallelism.num_gpus={len(plan.hardware.gpus)}"
        lines.append(f"{'idle GPUs:':15}{idle}; shared out among all: {both}")
    return lines


def _ways_to_fit(plan: Plan) -> Iterator[str]:
    """Name the changes of one thing, or of one more, with which it fits."""
    options, settings = [], []
    if not plan.precision.gradient_checkpointing:
        options.append("--checkpointing")
        settings.append("precision.gradient_checkpointing=true")
    ways = [(options, settings)]
    if len(plan.hardware.gpus) > plan.parallelism.num_gpus:
        shared = ["parallelism.kind=fsdp", f"parallelism.num_gpus={len(plan.hardware.gpus)}"]
        ways.append(([*options, *(f"--set {one}" for one in shared)], [*settings, *shared]))
    if plan.method.kind == "lora":
        ways.append((["--method qlora", *options], ["method.kind=qlora", *settings]))
    elif plan.method.kind == "full":
        ways.append((["--method lora", *options], ["method.kind=lora", *settings]))
    for typed, changes in ways:
        workload = plan_workload(apply_settings(plan, changes)) if changes else None
        need = footprint(workload).device if workload is not None else None
        if need is not None and need.high <= plan.hardware.gpus[0].memory_bytes:
            yield f"with {' '.join(typed)} it takes {format_gib(need.mid)} and fits"


def wished_plan(
    model: str,
    *,
    hardware: str | None,
    method: MethodKind,
    settings: Sequence[str] = (),
) -> Plan:
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
