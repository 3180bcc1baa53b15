"""How fast a plan's run goes, how long it takes, and what it costs."""

from __future__ import annotations

import hashlib
import json

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.values import Estimate, Interval
from finetune_exe.estimate.offset import offset_seconds
from finetune_exe.estimate.planned import plan_workload, planned_gpu
from finetune_exe.estimate.processor import processor_throughput
from finetune_exe.estimate.rows import arrange_passes, is_paired, row_tokens, split_sizes
from finetune_exe.estimate.throughput import Refusal, operations_per_weight, throughput
from finetune_exe.knowledge.rules import rule


def estimate_speed(plan: Plan) -> Estimate | None:
    """Estimate the real tokens a second that training runs through the model, on all GPUs or all cores together.

    Returns:
        Tokens a second; None where the model's dimensions or the GPU are unknown.
    """
    workload = plan_workload(plan)
    if workload is None:
        return None
    pace = throughput(workload) if plan.hardware.gpus else processor_throughput(workload, plan.hardware)
    if isinstance(pace, Refusal):
        return None
    gpus = workload.sharding.num_gpus
    each = pace.tokens_per_second
    return Estimate(
        value=Interval(low=round(gpus * each.low, 2), mid=round(gpus * each.mid, 2), high=round(gpus * each.high, 2)),
        unit="tokens_per_second",
        reason=pace.reason,
        source=pace.source,
    )


def speed_key(plan: Plan) -> str:
    """Name the settings that the speed of training depends on: equal names, equal speeds."""
    parts = {
        "model": plan.model.reference,
        "method": plan.method.model_dump(mode="json"),
        "batch": plan.batch.model_dump(mode="json"),
        "precision": plan.precision.model_dump(mode="json"),
        "optimizer": plan.optimizer.kind,
        **({} if plan.objective.kind == "sft" else {"objective": plan.objective.kind}),
        "max_length": plan.data.max_length,
        "paths": plan.data.paths,
        "processor": plan.hardware.cpu,
        "gpus": [gpu.name for gpu in plan.hardware.gpus],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def unknown_duration(plan: Plan) -> str:
    """Say why a plan without an estimate of its duration has none."""
    if plan.model.shape is None:
        return "the model's dimensions are not"
    if plan.hardware.gpus and planned_gpu(plan) is None:
        return f"how fast {plan.hardware.gpus[0].name} is; name the GPU, as in --gpu 'RTX 4090'"
    return "how fast this form of training is"


def estimate_duration(plan: Plan, *, speed: Estimate | None = None) -> Estimate | None:
    """Estimate the wall time of the whole run: what comes before the first step, training, and what comes between.

    Args:
        plan: The plan; without a profile of its data, for the rows it expects, of usual length.
        speed: Training tokens a second where they were measured; otherwise they are estimated.

    Returns:
        Seconds, whose parts are loading, rehearsal, training, validation, saving and, where adapters begin by
        offsetting rounding, that; None where the speed is unknown.
    """
    speed, workload = speed or estimate_speed(plan), plan_workload(plan)
    if speed is None or workload is None:
        return None
    sizes, row = split_sizes(plan), row_tokens(plan)
    if is_paired(plan):
        row = Interval(low=2 * row.low, mid=2 * row.mid, high=2 * row.high)
    rows = sizes.train * plan.schedule.epochs
    if plan.schedule.max_steps is not None:
        rows = min(rows, plan.schedule.max_steps * plan.batch_of_step.effective)
    epochs = rows / max(1, sizes.train)
    passes = 1 + plan.checkpoints.evaluations_per_epoch * epochs
    forward = 2 / operations_per_weight(workload)
    validation = sizes.validation * passes * forward
    loading = Interval(low=2.0, mid=8.0, high=60.0)
    rehearsal = _rehearsed_tokens(plan, row.mid) * (1 + forward)
    stops_early = plan.checkpoints.early_stopping_patience is not None and epochs > 1
    saving = passes * saved_bytes(workload.num_trained) / rule("checkpoint_cadence")["bytes_per_second"]
    low = ((0.5 if stops_early else 1.0) * (rows + validation) * row.low + rehearsal) / speed.value.high
    high = ((rows + validation) * row.high + rehearsal) / speed.value.low
    parts = {
        "loading": loading.mid,
        "rehearsal": round(rehearsal / speed.value.mid, 1),
        "training": round(rows * row.mid / speed.value.mid, 1),
        "validation": round(validation * row.mid / speed.value.mid, 1),
        "saving": round(saving, 1),
    }
    low, high = low + loading.low + 0.2 * saving, high + loading.high + 2 * saving
    if (offset := offset_seconds(plan, workload, speed.value.mid)) is not None:
        parts["offsetting"] = round(offset.mid, 1)
        low, high = low + offset.low, high + offset.high
    return Estimate(
        value=Interval(low=round(low, 1), mid=sum(parts.values()), high=round(high, 1)),
        unit="seconds",
        reason=f"{rows:,.0f} rows of about {row.mid:,.0f} tokens at {speed.value.mid:,.0f} tokens/s, and {passes:.0f} "
        f"validation passes{'; early stopping may end it sooner' if stops_early else ''}",
        source=speed.source,
        parts=parts,
    )


def saved_bytes(num_trained: float) -> float:
    """Size of a checkpoint: what is trained, twice in float32, as others load it and to go on from, and its states."""
    return 16.0 * num_trained


def _rehearsed_tokens(plan: Plan, mean: float) -> float:
    """Give the tokens of the longest pass, which is learned from and read once before the first step."""
    passes = arrange_passes(plan)
    return plan.batch.micro_batch_size * (passes.longest_tokens if passes else mean)


def estimate_cost(plan: Plan, duration: Estimate | None) -> Estimate | None:
    """Estimate what the run costs at the prices asked for its GPUs.

    Returns:
        US dollars; None without a duration or a price, and on one's own processor.
    """
    gpu = planned_gpu(plan)
    price = gpu.price_usd_per_hour if gpu else None
    if gpu is None or price is None or duration is None:
        return None
    hours, gpus = duration.value, plan.parallelism.num_gpus
    low, mid, high = (
        gpus * rate * seconds / 3600
        for rate, seconds in ((price.low, hours.low), (price.mid, hours.mid), (price.high, hours.high))
    )
    return Estimate(
        value=Interval(low=round(low, 4), mid=round(mid, 4), high=round(high, 4)),
        unit="usd",
        reason=f"{mid / price.mid:,.2f} GPU-hours of {gpu.name} at ${price.mid:.2f}, quoted from ${price.low:.2f} to "
        f"${price.high:.2f}",
        source="; ".join(dict.fromkeys(quote.source for quote in gpu.prices)),
    )
