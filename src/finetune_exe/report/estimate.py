"""What a run is expected to take, to read and as the keys that other programs rely on."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.plan_yaml import apply_settings
from finetune_exe.domain.values import Interval
from finetune_exe.estimate.expectation import PlanEstimate, RunEstimate
from finetune_exe.estimate.footprint import Footprint, footprint
from finetune_exe.estimate.planned import plan_workload
from finetune_exe.estimate.throughput import Refusal, Throughput
from finetune_exe.report.boxes import aligned_table
from finetune_exe.report.numbers import format_interval
from finetune_exe.units import GIB, MIB, format_gib


def run_estimate_contract(estimate: RunEstimate) -> dict[str, object]:
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


def plan_estimate_contract(estimate: PlanEstimate) -> dict[str, object]:
    """Put the estimates of a plan into the same form."""
    speed = estimate.speed
    return {
        "model": estimate.plan.model.name,
        "method": estimate.plan.method.kind,
        **_figures(estimate.memory, speed),
        "process_gib": _gib(estimate.process.total) if estimate.process else None,
        "duration": estimate.duration.model_dump(mode="json") if estimate.duration else None,
        "cost": estimate.cost.model_dump(mode="json") if estimate.cost else None,
        "refused": speed.reason if isinstance(speed, Refusal) else None,
    }


def render_estimate(estimate: PlanEstimate) -> str:
    """Write the estimates of a plan as a table of parts, then the totals with their 90 % intervals."""
    plan, memory, speed = estimate.plan, estimate.memory, estimate.speed
    totals = (
        [("process", estimate.process.total)]
        if estimate.process
        else [("allocated", memory.allocated), ("reserved", memory.reserved), ("on the device", memory.device)]
    )
    parts = estimate.process.parts if estimate.process else memory.parts
    rows = [(name, format_gib(size)) for name, size in parts.items() if size >= MIB]
    batch = f"{plan.batch.micro_batch_size} x {estimate.workload.longest_tokens:,.0f} tokens"
    lines = [
        f"{plan.model.name}, {plan.method.kind}, {batch}, on {plan.hardware.processor}",
        "",
        *aligned_table(("Memory at the peak", "Size"), rows),
        "",
        *(f"{name + ':':15}{format_interval(size, 'bytes')}" for name, size in totals),
        f"{'peak in:':15}{memory.phase}",
        *_room(estimate),
    ]
    if isinstance(speed, Refusal):
        lines.append(f"{'speed:':15}not said: {speed.reason}")
    else:
        each = " on each GPU" if estimate.workload.sharding.num_gpus > 1 else ""
        lines.append(f"{'speed:':15}{format_interval(speed.tokens_per_second, 'tokens_per_second')}{each}")
        lines.append(f"{'':15}{speed.reason}")
    if estimate.duration:
        lines.append(f"{'duration:':15}{format_interval(estimate.duration.value, 'seconds')}")
        lines.append(f"{'':15}{estimate.duration.reason}")
    if estimate.cost:
        lines.append(f"{'cost:':15}{format_interval(estimate.cost.value, 'usd')}")
    return "\n".join(lines)


def _room(estimate: PlanEstimate) -> list[str]:
    """Say whether one GPU has room for it, what would make room, and that other GPUs which were named stay idle."""
    plan = estimate.plan
    if not plan.hardware.gpus:
        return []
    there, need = plan.hardware.gpus[0].memory_bytes, estimate.memory.device
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
