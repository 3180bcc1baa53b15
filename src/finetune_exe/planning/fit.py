"""The fastest way to run a plan that fits the hardware."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from finetune_exe.domain.plan import Considered, Full, Lora, OptimizerName, Parallelism, Plan, Prefix, Qlora
from finetune_exe.domain.values import Decision, Interval, Leaf
from finetune_exe.estimate.duration import estimate_speed
from finetune_exe.estimate.memory import estimate_memory
from finetune_exe.estimate.parameters import count_parameters
from finetune_exe.knowledge.rules import rule
from finetune_exe.planning.adapter import advise_rounding
from finetune_exe.planning.grid import own_grid
from finetune_exe.planning.readiness import usable_memory_bytes
from finetune_exe.units import format_gib

SHORTEST_CUT = 512
"""Rows are not cut below this length to make a run fit, in tokens."""
WORTH_ROUNDING = 1.25
"""How many times as fast as LoRA QLoRA has to be where both fit: what is no faster for sure should not round weights.

Source: chosen; speeds that lie nearer each other are not told apart by the estimate (benchmarks/estimates.md)."""
_ROWS_OF_UNKNOWN = 4
_SOURCE = "the memory and speed estimates"
_VARIED = (
    "method.kind", "method.masters", "batch.micro_batch_size", "batch.gradient_accumulation_steps",
    "precision.gradient_checkpointing", "optimizer.kind", "parallelism.kind", "parallelism.num_gpus",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What the search came to."""

    plan: Plan
    """The plan in its fastest form that fits, or in the smallest one where none does; its decisions as they were."""
    fits: bool | None
    """None where the model's dimensions are unknown."""
    considered: tuple[Considered, ...] = ()
    """Every form that was weighed, the chosen one first."""


def fit_plan(plan: Plan, *, fixed: Collection[str]) -> Plan:
    """Give the plan the form that `find_fit` finds, and every setting that it changed the reason.

    Args:
        plan: The plan, all rows of a step in one pass on one GPU.
        fixed: Dotted paths of settings that must stay as they are.
    """
    fit = find_fit(plan, fixed=fixed)
    if fit.fits is None:
        return _decided_passes(fit.plan, "memory is not known", fixed)
    return _reasoned(fit.plan, plan, fixed).model_copy(update={"considered": fit.considered})


def find_fit(plan: Plan, *, fixed: Collection[str]) -> Fit:
    """Choose method, rows a pass, checkpointing, optimizer and GPUs so that the run is fastest and fits with margin.

    The rows of a step stay what they are. LoRA may become QLoRA, of a small model only where LoRA does not fit; full
    training may keep 8-bit states. Only where nothing fits are rows cut, and never below `SHORTEST_CUT` tokens.
    """
    if estimate_memory(plan) is None:
        forms = list(_passes(plan, fixed))
        small = next((form for form in forms if form.batch.micro_batch_size <= _ROWS_OF_UNKNOWN), forms[-1])
        return Fit(plan=small, fits=None)
    best, considered = _fastest(plan, fixed)
    length = plan.data.max_length
    while best is None and "data.max_length" not in fixed and length // 2 >= SHORTEST_CUT:
        length //= 2
        best, more = _fastest(_cut(plan, length), fixed)
        considered += more
    chosen = best or min(_forms(_cut(plan, length), fixed), key=_memory_needed)
    mine = _apart(chosen)
    pace = next((entry.tokens_per_second or 0.0 for entry in considered if entry.settings == mine), 0.0)
    marked = [
        entry.model_copy(update={"verdict": "chosen"}) if best is not None and entry.settings == mine
        else entry.model_copy(update={"verdict": "rounds"}) if (entry.tokens_per_second or 0.0) > pace
        else entry
        for entry in considered
    ]  # fmt: skip
    marked.sort(
        key=lambda each: (each.verdict != "chosen", each.verdict == "too large", -(each.tokens_per_second or 0))
    )
    return Fit(plan=chosen, fits=best is not None, considered=tuple(marked))


def unfitted(plan: Plan) -> Plan:
    """Take a plan back to where the search begins: all rows of a step in one pass, on one GPU, with exact states."""
    rows = plan.batch.effective * plan.parallelism.num_gpus
    plain = _with_passes(plan, rows, 1).altered(optimizer={"kind": "adamw"})
    return plain.model_copy(update={"parallelism": Parallelism()})


def fits_memory(plan: Plan) -> bool | None:
    """Say whether even the high end of the memory estimate can be used; None where memory is not known."""
    memory = estimate_memory(plan)
    return None if memory is None else memory.value.high <= usable_memory_bytes(plan)


def _fastest(plan: Plan, fixed: Collection[str]) -> tuple[Plan | None, list[Considered]]:
    """Try every form; of forms that differ in the rows a pass only, the largest that fits is the fastest."""
    best: Plan | None = None
    best_pace = -1.0
    tried: list[Considered] = []
    done: set[tuple[Leaf, ...]] = set()
    for form in _forms(plan, fixed):
        if best is not None and best.method.kind == "lora" and _loses_by_rounding(form):
            continue
        kind = (form.method.kind, form.precision.gradient_checkpointing, form.optimizer.kind, form.parallelism.kind)
        if kind in done:
            continue
        needed = _memory_needed(form)
        fits = needed <= usable_memory_bytes(form)
        pace = _pace(form) if fits else None
        tried.append(
            Considered(
                method=form.method.kind,
                settings=_apart(form),
                memory_bytes=needed,
                tokens_per_second=pace,
                verdict="slower" if fits else "too large",
            )
        )
        if fits:
            done.add(kind)
            rounds = isinstance(form.method, Qlora) and best is not None and best.method.kind == "lora"
            if best is None or (pace or 0.0) > best_pace * (WORTH_ROUNDING if rounds else 1.0):
                best, best_pace = form, pace or 0.0
    return best, tried


def _loses_by_rounding(plan: Plan) -> bool:
    """Say whether a form is in 4 bit and its model smaller than those shown to lose nothing by it."""
    size = count_parameters(plan.model.shape) if plan.model.shape else 0
    return isinstance(plan.method, Qlora) and size < rule("qlora")["lossless_from"]


def _forms(plan: Plan, fixed: Collection[str]) -> Iterator[Plan]:
    """Yield the plan in every form it may take, rows a pass falling fastest."""
    for method in _methods(plan, fixed):
        for optimizer in _optimizers(method, fixed):
            for parallelism in _parallelisms(method, fixed):
                spread = method.altered(optimizer={"kind": optimizer}).model_copy(update={"parallelism": parallelism})
                if parallelism.kind == "fsdp":
                    spread = _cut_up(spread, fixed)
                    if not spread.can_be_cut_up and "parallelism.kind" not in fixed:
                        continue
                for checkpointing in _checkpointings(spread, fixed):
                    yield from _passes(spread.altered(precision={"gradient_checkpointing": checkpointing}), fixed)


def _cut_up(plan: Plan, fixed: Collection[str]) -> Plan:
    """Keep in float32 what is cut up among processes, where the plan may say so."""
    if not isinstance(plan.method, Full) or "method.masters" in fixed:
        return plan
    return plan.model_copy(update={"method": Full(masters="float32")})


def _methods(plan: Plan, fixed: Collection[str]) -> Iterator[Plan]:
    yield plan
    if isinstance(plan.method, Lora) and "method.kind" not in fixed and plan.hardware.gpus:
        settings = plan.method.model_dump(exclude={"kind"})
        quantization = own_grid(plan.model.reference) or "nf4"
        yield plan.model_copy(update={"method": Qlora(**settings, quantization=quantization)})


def _optimizers(plan: Plan, fixed: Collection[str]) -> Iterator[OptimizerName]:
    yield plan.optimizer.kind
    if isinstance(plan.method, Full) and plan.hardware.gpus and "optimizer.kind" not in fixed:
        yield "adamw_8bit"


def _parallelisms(plan: Plan, fixed: Collection[str]) -> Iterator[Parallelism]:
    count = len(plan.hardware.gpus)
    if {"parallelism.kind", "parallelism.num_gpus"} & set(fixed) or count < 2 or plan.batch.effective < count:
        yield plan.parallelism
        return
    yield Parallelism(kind="ddp", num_gpus=count)
    yield Parallelism(kind="fsdp", num_gpus=count)


def _checkpointings(plan: Plan, fixed: Collection[str]) -> tuple[bool, ...]:
    if "precision.gradient_checkpointing" in fixed:
        return (plan.precision.gradient_checkpointing,)
    if isinstance(plan.method, Prefix):
        return (False,)  # layers that are computed again drop the keys and values before the row
    return (False, True)


def _passes(plan: Plan, fixed: Collection[str]) -> Iterator[Plan]:
    """Share the rows of a step out to the GPUs, and on each into ever smaller passes.

    Where the user fixed only one of rows a pass and passes a step, the other makes up the rows that were advised.
    """
    count, batch = plan.parallelism.num_gpus, plan.batch
    advised = plan.decisions.get("batch.micro_batch_size")
    wanted = advised.value if advised is not None and isinstance(advised.value, int) else batch.effective
    match "batch.micro_batch_size" in fixed, "batch.gradient_accumulation_steps" in fixed:
        case True, True:
            yield plan
        case True, False:
            yield _with_passes(plan, batch.micro_batch_size, max(1, wanted // count // batch.micro_batch_size))
        case False, True:
            passes = batch.gradient_accumulation_steps
            yield _with_passes(plan, max(1, wanted // count // passes), passes)
        case _:
            rows = max(1, batch.effective // count)
            for size in range(rows, 0, -1):
                if rows % size == 0:
                    yield _with_passes(plan, size, rows // size)


def _with_passes(plan: Plan, size: int, passes: int) -> Plan:
    return plan.altered(batch={"micro_batch_size": size, "gradient_accumulation_steps": passes})


def _cut(plan: Plan, length: int) -> Plan:
    return plan.altered(data={"max_length": length})


def _memory_needed(plan: Plan) -> float:
    memory = estimate_memory(plan)
    assert memory is not None
    return memory.value.high


def _pace(plan: Plan) -> float | None:
    """Tokens a second of all GPUs together."""
    speed = estimate_speed(plan)
    return None if speed is None else speed.value.mid


def _apart(plan: Plan) -> dict[str, Leaf]:
    values = {path: value for path, value, _ in plan.settings()}
    return {path: values[path] for path in (*_VARIED, "data.max_length") if path in values}


def _reasoned(chosen: Plan, asked: Plan, fixed: Collection[str]) -> Plan:
    """Give each setting that the search changed its decision."""
    plan = _decided_passes(chosen, "what fits in memory at once", fixed)
    usable = format_gib(usable_memory_bytes(plan))
    if plan.method.kind != asked.method.kind:
        plan = plan.decided({"method.kind": _smaller_method(asked, usable), **advise_rounding(plan.model)})
    if "precision.gradient_checkpointing" not in fixed:
        plan = plan.decided({"precision.gradient_checkpointing": _recomputing(plan)})
    if plan.optimizer.kind != asked.optimizer.kind:
        plan = plan.decided({"optimizer.kind": Decision(
            value=plan.optimizer.kind, reason=f"with states in float32 nothing as fast fits in {usable}",
            source=rule("optimizer").source, confidence="medium",
            alternatives=("adamw: exact states, with more memory",),
        )})  # fmt: skip
    if isinstance(plan.method, Full) and plan.method != asked.method:
        plan = plan.decided({"method.masters": Decision(
            value=plan.method.masters, reason="weights that are cut up among processes are kept in float32",
            source=rule("masters").source, confidence="high",
        )})  # fmt: skip
    if plan.data.max_length != asked.data.max_length:
        plan = plan.decided({"data.max_length": Decision(
            value=plan.data.max_length, reason=f"longer rows do not fit in {usable}",
            source=_SOURCE, confidence="medium",
            alternatives=(f"{asked.data.max_length}: loses no row, with more memory",),
        )})  # fmt: skip
    return plan if plan.parallelism == asked.parallelism else plan.decided(_spreading(plan))


def _smaller_method(asked: Plan, usable: str) -> Decision:
    known = rule("qlora")
    return known.decides(
        "qlora",
        (
            f"LoRA over 16-bit weights does not fit in {usable}, or only in a slower form; "
            "in 4 bit the frozen weights take a quarter, at about the same quality"
        ),
        alternatives=(f"{asked.method.kind}: faster, with more memory",),
        would_change="a GPU with more memory",
    )


def _recomputing(plan: Plan) -> Decision:
    if plan.precision.gradient_checkpointing:
        return Decision(
            value=True,
            reason="without it no form as fast fits in memory",
            source=_SOURCE,
            confidence="medium",
            alternatives=("false: a quarter to a third faster, with more memory",),
            would_change="more memory, or shorter rows",
        )
    return Decision(
        value=False,
        reason="the activations fit in memory, so they need not be computed twice",
        source=_SOURCE,
        confidence="medium",
        alternatives=("true: much less memory, a quarter to a third slower",),
        would_change="longer rows or more of them a pass",
    )


def _spreading(plan: Plan) -> dict[str, Decision]:
    form, count = plan.parallelism.kind, plan.parallelism.num_gpus
    why = "each GPU holds the whole model, which needs the least traffic between them"
    if form == "fsdp":
        why = "weights, gradients and states are cut up among the GPUs, as they do not fit on one or are faster so"
    all_of_them = f"all {count} GPUs"
    return {
        "parallelism.kind": Decision(value=form, reason=why, source=_SOURCE, confidence="medium"),
        "parallelism.num_gpus": Decision(value=count, reason=all_of_them, source=_SOURCE, confidence="medium"),
    }


def _decided_passes(plan: Plan, why: str, fixed: Collection[str]) -> Plan:
    size, passes = plan.batch.micro_batch_size, plan.batch.gradient_accumulation_steps
    advised = plan.decisions["batch.micro_batch_size"]
    whole = passes == 1 and plan.parallelism.num_gpus == 1
    micro = advised.model_copy(
        update={
            "value": size,
            "reason": advised.reason if whole else f"{advised.reason}; {size} is {why}",
            "interval": _around(advised.interval, size),
        }
    )
    rows = plan.batch.effective * plan.parallelism.num_gpus
    gpus = f" on each of {plan.parallelism.num_gpus} GPUs" if plan.parallelism.num_gpus > 1 else ""
    shared = f"{size} row{'' if size == 1 else 's'}{gpus}"
    accumulated = Decision(
        value=passes,
        reason=f"one pass of {shared} makes a step"
        if passes == 1
        else f"{passes} passes of {shared} make the {rows} rows of a step",
        source=_SOURCE,
        confidence="high",
    )
    found = {"batch.micro_batch_size": micro, "batch.gradient_accumulation_steps": accumulated}
    return plan.decided({path: decision for path, decision in found.items() if path not in fixed})


def _around(interval: Interval | None, value: float) -> Interval | None:
    if interval is None:
        return None
    return Interval(low=min(interval.low, value), mid=value, high=max(interval.high, value))
