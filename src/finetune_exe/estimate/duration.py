"""How fast a run goes and how long it takes."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_exe.domain.plan import Full, Plan
from finetune_exe.domain.values import Estimate, Interval, ModelShape
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.parameters import count_parameters, embedding_parameters
from finetune_exe.estimate.rows import learned_share, row_tokens, split_sizes
from finetune_exe.knowledge.cpus import cpu_rates
from finetune_exe.knowledge.gpus import find_gpu
from finetune_exe.knowledge.rules import rule


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rate:
    """Floating-point operations a second that a training step reaches."""

    value: Interval
    reason: str
    source: str


def estimate_speed(plan: Plan) -> Estimate | None:
    """Estimate the real tokens a second that training runs through the model, on one GPU or all cores.

    Work for each token is 4 operations a weight with LoRA, 6 in full training, 2 more with checkpointing; the output
    matrix counts only where a token is learned.

    Returns:
        Tokens a second; None where the model's dimensions or the GPU are unknown, or it is a mixture of experts.

    Source: LoRA Without Regret (2025) for 4 against 6; the rates have theirs in the fact tables.
    """
    shape = plan.model.shape
    rate = _operations_per_second(plan)
    if shape is None or shape.num_experts > 1 or rate is None:
        return None
    share = learned_share(plan.profile)
    return Estimate(
        value=Interval(
            low=round(rate.value.low / _operations_per_token(plan, shape, learned=share.high), 2),
            mid=round(rate.value.mid / _operations_per_token(plan, shape, learned=share.mid), 2),
            high=round(rate.value.high / _operations_per_token(plan, shape, learned=share.low), 2),
        ),
        unit="tokens_per_second",
        reason=rate.reason,
        source=rate.source,
    )


def estimate_duration(plan: Plan, *, speed: Estimate | None = None) -> Estimate | None:
    """Estimate the wall time of the whole run: loading, training steps and the validation passes between them.

    Args:
        plan: The plan, with a profile of its data.
        speed: Training tokens a second where they were measured; otherwise they are estimated.

    Returns:
        Seconds, whose parts are loading, training and validation; None where speed or data are unknown.
    """
    speed = speed or estimate_speed(plan)
    if speed is None or plan.profile is None:
        return None
    sizes, row = split_sizes(plan, plan.profile), row_tokens(plan, plan.profile)
    rows = sizes.train * plan.schedule.epochs
    if plan.schedule.max_steps is not None:
        rows = min(rows, plan.schedule.max_steps * plan.batch.effective)
    epochs = rows / max(1, sizes.train)
    passes = 1 + plan.checkpoints.evaluations_per_epoch * epochs
    forward = 2 / _operations_per_weight(plan)
    validation = sizes.validation * passes * forward
    loading = Interval(low=1.0, mid=5.0, high=60.0)
    stops_early = plan.checkpoints.early_stopping_patience is not None and epochs > 1
    low = (0.5 if stops_early else 1.0) * (rows + validation) * row.low / speed.value.high
    high = (rows + validation) * row.high / speed.value.low
    parts = {
        "loading": loading.mid,
        "training": round(rows * row.mid / speed.value.mid, 1),
        "validation": round(validation * row.mid / speed.value.mid, 1),
    }
    return Estimate(
        value=Interval(low=round(loading.low + low, 1), mid=sum(parts.values()), high=round(loading.high + high, 1)),
        unit="seconds",
        reason=f"{rows:,.0f} rows of about {row.mid:,.0f} tokens at {speed.value.mid:,.0f} tokens/s, and {passes:.0f} "
        f"validation passes{'; early stopping may end it sooner' if stops_early else ''}",
        source=speed.source,
        parts=parts,
    )


def _operations_per_weight(plan: Plan) -> int:
    checkpointing = 2 if plan.precision.gradient_checkpointing else 0
    return (6 if isinstance(plan.method, Full) else 4) + checkpointing


def _operations_per_token(plan: Plan, shape: ModelShape, *, learned: float) -> float:
    """Work for one token whose output is computed in the share `learned` of cases."""
    inner = count_parameters(shape) - embedding_parameters(shape)
    head = shape.vocab_size * shape.hidden_size * learned
    return _operations_per_weight(plan) * (inner + head)


def _operations_per_second(plan: Plan) -> _Rate | None:
    half = plan.precision.base_dtype == "bfloat16"
    if plan.hardware.gpus:
        name = plan.hardware.gpus[0].name
        try:
            facts = find_gpu(name)
        except FineTuneError:
            return None
        peak = 1e12 * (facts.bf16_tflops if half and facts.bf16 else facts.fp32_tflops)
        share = rule("gpu_utilisation")
        return _Rate(
            value=Interval(low=share["low"] * peak, mid=share["mid"] * peak, high=share["high"] * peak),
            reason=f"{100 * share['mid']:.0f} % of the {peak / 1e12:,.0f} TFLOP/s that the {name} does at its peak",
            source=f"{facts.source}; {share.source}",
        )
    rates = cpu_rates(plan.hardware.cpu_features)
    core = 1e9 * (rates.effective_bf16_gflops if half else rates.effective_fp32_gflops)
    total = core * plan.hardware.num_cores**0.9
    return _Rate(
        value=Interval(low=0.4 * total, mid=total, high=1.5 * total),
        reason=f"{core / 1e9:.0f} GFLOP/s a core on {plan.hardware.num_cores} cores",
        source=rates.source,
    )
