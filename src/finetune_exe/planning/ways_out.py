"""What to do when a wish cannot be met: the reasons in numbers, and the nearest plans that can."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Literal, NamedTuple

from finetune_exe.domain.method_kinds import METHOD_PHRASES
from finetune_exe.domain.plan import Full, Lora, LowRank, Plan, Qlora
from finetune_exe.domain.task import TaskSpec
from finetune_exe.domain.values import Estimate
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.duration import estimate_duration, estimate_speed
from finetune_exe.estimate.memory import estimate_memory
from finetune_exe.estimate.parameters import count_adapted_experts
from finetune_exe.estimate.planned import adapted_layers
from finetune_exe.estimate.rows import expected_rows
from finetune_exe.knowledge.gpus import gpu_facts
from finetune_exe.knowledge.models import model_facts
from finetune_exe.planning.fit import SHORTEST_CUT, Fit, find_fit, fits_memory, unfitted
from finetune_exe.planning.model import describe_model
from finetune_exe.planning.options import estimated, keeps_limits
from finetune_exe.planning.readiness import usable_memory_bytes
from finetune_exe.units import format_count, format_duration, format_gib, format_parameters, format_usd

_HOUR = 3600.0
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def refuse_impossible(plan: Plan, spec: TaskSpec, *, fixed: Collection[str]) -> None:
    """Refuse a plan that cannot fit the memory, the hours or the money that were given.

    Args:
        plan: The plan in its most frugal form, with its estimates.
        spec: The wishes.
        fixed: Dotted paths of settings that the user fixed.

    Raises:
        FineTuneError: C10, with the reasons in numbers and the nearest ways out.
    """
    reasons, ways = list[str](), list[str]()
    memory = plan.estimates.get("memory")
    usable = usable_memory_bytes(plan)
    if memory is not None and memory.value.low > usable:
        needed = f"{METHOD_PHRASES[plan.method.kind]} of {plan.model.name} needs {format_gib(memory.value.low)} or more"
        reasons.append(f"{needed}, and {format_gib(usable)} can be used")
        ways += _for_memory(plan, fixed)
    rows_are_a_guess = plan.profile is None and plan.task.num_rows is None
    for limit in () if rows_are_a_guess else _limits(spec):
        estimate = plan.estimates.get(limit.of)
        if estimate is not None and estimate.value.low > limit.most:
            shown = limit.shown
            reasons.append(f"it takes {shown(estimate.value.low)} or more, and {shown(limit.most)} is given")
            ways += _for_limit(plan, limit, estimate)
    if not reasons:
        return
    raise FineTuneError(
        "C10",
        what="; ".join(reasons),
        where=f"the wish to train {plan.model.name} on {_machine(plan)}",
        why="these are the low ends of the estimates: it would fail or overrun, not merely be tight",
        fix="\n         ".join(f"{number}. {way}" for number, way in enumerate(dict.fromkeys(ways), 1))
        or "take a smaller model, fewer rows or more hardware",
    )


class _Limit(NamedTuple):
    """What the user gives for the run at most."""

    of: Literal["duration", "cost"]
    most: float
    option: str
    shown: Callable[[float], str]
    typed: Callable[[float], str]
    """Writes a value, rounded up, behind the option."""


def _limits(spec: TaskSpec) -> Iterator[_Limit]:
    if spec.hours:
        hours = spec.hours * _HOUR
        yield _Limit("duration", hours, "--hours", format_duration, lambda value: f"{value / _HOUR + 0.05:.1f}")
    if spec.budget_usd:
        yield _Limit("cost", spec.budget_usd, "--budget-usd", format_usd, lambda value: f"{value + 0.5:.0f}")


def _machine(plan: Plan) -> str:
    gpus = plan.hardware.gpus
    if not gpus:
        return f"{plan.hardware.cpu} with {format_gib(plan.hardware.memory_bytes)}"
    return f"{len(gpus)} x {gpus[0].name}" if len(gpus) > 1 else gpus[0].name


def _for_memory(plan: Plan, fixed: Collection[str]) -> Iterator[str]:
    """Name the nearest plans that fit: experts left alone, another method, shorter rows, smaller model, bigger GPU."""
    yield from _attention_alone(plan, fixed)
    for method in ("lora", "qlora") if isinstance(plan.method, Full) else ():
        adapter = Lora() if method == "lora" else Qlora()
        fit = _refitted(plan.model_copy(update={"method": adapter}), fixed={"method.kind", "data.max_length"})
        if fit.fits:
            yield _way(f"--method {method}", fit)
            break
    else:
        if isinstance(plan.method, Full):
            yield from _bigger_gpu(plan.model_copy(update={"method": Qlora()}), wish="--method qlora ")
    length = plan.data.max_length // 2
    while length >= SHORTEST_CUT // 4:
        fit = _refitted(plan.altered(data={"max_length": length}), fixed={"method.kind", "data.max_length"})
        if fit.fits:
            yield _way(f"--set data.max_length={length}", fit)
            break
        length //= 2
    yield from _smaller_model(plan)
    yield from _bigger_gpu(plan)


def _attention_alone(plan: Plan, fixed: Collection[str]) -> Iterator[str]:
    """Leave the experts of a model without adapters, where that fits."""
    shape, method = plan.model.shape, plan.method
    if shape is None or not isinstance(method, LowRank) or "method.target_modules" in fixed:
        return
    if not count_adapted_experts(shape, targets=adapted_layers(method)):
        return
    alone = method.model_copy(update={"target_modules": _ATTENTION})
    fit = _refitted(plan.model_copy(update={"method": alone}), fixed={"method.kind", "data.max_length"})
    if fit.fits:
        yield _way(f"--set 'method.target_modules=[{', '.join(_ATTENTION)}]'", fit)


def _smaller_model(plan: Plan) -> Iterator[str]:
    """Find the largest model of the same family that fits and keeps the limits, or of any where none of it does."""
    ours = plan.model.num_parameters or 0
    mine = next((facts.family for facts in model_facts() if facts.shape == plan.model.shape), None)
    smaller = sorted(
        (
            facts
            for facts in model_facts()
            if facts.verified
            and facts.num_parameters < ours
            and (not facts.specialist or plan.task.type in facts.strengths)
        ),
        key=lambda facts: (facts.family == mine, facts.num_parameters),
        reverse=True,
    )
    for facts in smaller:
        other = plan.model_copy(update={"model": describe_model(facts.reference)})
        if not fits_memory(_frugal(other)):
            continue
        fit = _refitted(other, fixed={"data.max_length"})
        if fit.fits and keeps_limits(estimated(fit.plan)):
            yield _way(f"--model {facts.reference} --method {fit.plan.method.kind}", fit)
            return


def _bigger_gpu(plan: Plan, *, wish: str = "") -> Iterator[str]:
    """Find the smallest GPU, or number of the same, on which the plan fits as it was wished, within its limits."""
    cards = (facts for facts in gpu_facts() if facts.vendor == "NVIDIA" and facts.bf16 and facts.price_usd_per_hour)
    for facts in sorted(cards, key=lambda facts: (facts.memory_gib, -facts.bf16_tflops)):
        for count in (1, 2, 4, 8):
            if count > 1 and facts.memory_gib < 80:
                continue
            hardware = plan.hardware.model_copy(update={"gpus": (facts.gpu,) * count})
            fit = _refitted(plan.model_copy(update={"hardware": hardware}), fixed={"method.kind", "data.max_length"})
            if fit.fits and keeps_limits(estimated(fit.plan)):
                name = facts.name if count == 1 else f"{count}x{facts.name}"
                yield _way(f"{wish}--gpu '{name}'", fit)
                return


def _frugal(plan: Plan) -> Plan:
    """Give the plan its smallest form: one row a pass, recomputing."""
    return plan.altered(batch={"micro_batch_size": 1}, precision={"gradient_checkpointing": True})


def _refitted(plan: Plan, *, fixed: Collection[str]) -> Fit:
    """Fit again from the start."""
    return find_fit(unfitted(plan), fixed=fixed)


def _way(options: str, fit: Fit) -> str:
    """Name a change of the command, and what the run then takes."""
    memory, speed = estimate_memory(fit.plan), estimate_speed(fit.plan)
    duration = estimate_duration(fit.plan, speed=speed)
    parts = [f"{format_gib(memory.value.mid)} of {format_gib(usable_memory_bytes(fit.plan))}"] if memory else []
    parts += [f"about {format_duration(duration.value.mid)}"] if duration else []
    parts += [f"{format_parameters(fit.plan.model.num_parameters)} parameters"] if fit.plan.model.num_parameters else []
    return f"{options}  ({', '.join(parts)})"


def _for_limit(plan: Plan, limit: _Limit, estimate: Estimate) -> Iterator[str]:
    """Say what a limit on time or money that is exceeded leaves room for, and what would be enough."""
    if plan.profile is not None:
        rows = expected_rows(plan)
        affordable = int(rows * limit.most / estimate.value.high)
        if affordable >= 3:
            yield f"--set data.max_rows={affordable}  (of {format_count(rows)} rows)"
    if plan.schedule.epochs > 1 and estimate.value.high / plan.schedule.epochs <= limit.most:
        yield f"--set schedule.epochs=1  ({limit.shown(estimate.value.mid / plan.schedule.epochs)})"
    yield f"{limit.option} {limit.typed(estimate.value.high)}  (what it takes at most)"
