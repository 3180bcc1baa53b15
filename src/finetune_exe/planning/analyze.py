"""From a question to a plan."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from finetune_exe.domain.plan import (
    BaseModelChoice,
    Batch,
    DataChoice,
    EvaluationChoice,
    Plan,
    Precision,
)  # fmt: skip
from finetune_exe.domain.task import DataProfile, TaskSpec, TaskType
from finetune_exe.domain.values import Decision, Estimate, Hardware, Interval
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.duration import estimate_duration, estimate_speed
from finetune_exe.estimate.memory import estimate_memory
from finetune_exe.estimate.rows import split_sizes
from finetune_exe.knowledge.models import find_model
from finetune_exe.knowledge.rules import rule
from finetune_exe.planning.hyperparameters import Advice, advise
from finetune_exe.planning.model import SUGGESTED, describe_model
from finetune_exe.planning.readiness import check_readiness, data_needs, usable_memory_bytes
from finetune_exe.planning.task import classify_task
from finetune_exe.units import format_gib, format_number

_SHORTEST_CUT = 512
_NEW_FACTS = re.compile(
    r"\b(facts?|knowledge|know about|documentation|manuals?|wiki|up.to.date|latest|our (products?|company|docs))\b",
    re.IGNORECASE,
)


def analyze(
    spec: TaskSpec,
    *,
    profile: DataProfile | None,
    model: BaseModelChoice,
    hardware: Hardware,
    speed: Estimate | None = None,
) -> Plan:
    """Decide a fine-tuning run: task, method, hyperparameters, fit into memory, evaluation, and what to expect.

    Args:
        spec: What is asked for.
        profile: What the data show; None where none were given.
        model: The base model, wished for or suggested.
        hardware: The machine the run is planned for.
        speed: Training tokens a second, where they were measured on it.

    Raises:
        FineTuneError: C08 where the task is none for a language model.
    """
    task = classify_task(spec.description, profile)
    if task.type == "other":
        raise FineTuneError(
            "C08",
            what="this is no task for fine-tuning a language model",
            where=f"the task {spec.description!r}",
            why=task.evidence[0] + "; here text comes in and text goes out",
            fix="use a tool made for it, or describe the text the model reads and the text it shall write",
        )
    advice = advise(spec, profile=profile, model=model, hardware=hardware)
    data, data_decisions = _data(spec, profile, model)
    evaluation, evaluation_decisions = _evaluation(task.type, profile)
    plan = Plan(
        inputs={"task": spec.digest()},
        task=task,
        model=model,
        data=data,
        method=advice.method,
        optimizer=advice.optimizer,
        schedule=advice.schedule,
        batch=advice.batch,
        precision=advice.precision,
        evaluation=evaluation,
        hardware=hardware,
        profile=profile,
        data_needs=data_needs(task.type, profile),
        decisions={
            "model.reference": _model_decision(spec, model, hardware),
            **data_decisions,
            **advice.decisions,
            **evaluation_decisions,
        },
    )
    return refresh(_fit(plan, advice), speed=speed)


def refresh(plan: Plan, *, speed: Estimate | None = None) -> Plan:
    """Compute again what follows from the settings: estimates, readiness, notes, and the facts of another base model.

    Args:
        plan: A plan whose settings may have been edited; they and the decisions stay.
        speed: Training tokens a second, where they were measured.
    """
    if "model.reference" in plan.changed_by_user():
        model = describe_model(plan.model.reference).model_copy(update={"revision": plan.model.revision})
        plan = plan.model_copy(update={"model": model})
    found: list[tuple[str, Estimate | None]] = [
        ("memory", estimate_memory(plan)),
        ("duration", estimate_duration(plan, speed=speed)),
        ("speed", speed or estimate_speed(plan)),
    ]
    needs = data_needs(plan.task.type, plan.profile)
    estimates = {name: estimate for name, estimate in found if estimate is not None}
    plan = plan.model_copy(update={"estimates": estimates, "data_needs": needs})
    return plan.model_copy(update={"readiness": check_readiness(plan), "notes": tuple(_notes(plan))})


def _model_decision(spec: TaskSpec, model: BaseModelChoice, hardware: Hardware) -> Decision:
    if spec.model is not None:
        return Decision(value=model.reference, reason="you asked for it", source="you", confidence="high")
    ours = model.num_parameters or 1
    others = tuple(
        f"{other.reference}: about {max(other.num_parameters, ours) / min(other.num_parameters, ours):.0f} times "
        f"{'larger and slower' if other.num_parameters > ours else 'smaller and faster'}"
        for other in map(find_model, SUGGESTED)
        if model.num_parameters and other.reference != model.reference
    )
    if hardware.gpus:
        memory = format_gib(hardware.accelerator_memory_bytes)
        reason = f"the largest of the suggested open models that LoRA trains in {memory}"
        if model.reference == "embedded":
            reason = f"no other suggested model trains in {memory}"
        return Decision(
            value=model.reference,
            reason=reason,
            source=rule("suggested_model_memory").source,
            confidence="medium",
            alternatives=others,
        )
    return Decision(
        value=model.reference,
        reason="it is here already and trains in minutes on a processor; without a GPU larger models take hours",
        source="measured: 331 tokens/s in LoRA training on 2 AMX cores",
        confidence="medium",
        alternatives=(*others, "a larger model on a GPU: better answers, as in --gpu 'RTX 4090'"),
    )


def _data(
    spec: TaskSpec, profile: DataProfile | None, model: BaseModelChoice
) -> tuple[DataChoice, dict[str, Decision]]:
    """Say where rows come from, how long they may be and which belong together."""
    decisions: dict[str, Decision] = {}
    if spec.data_paths:
        decisions["data.paths"] = Decision(
            value=spec.data_paths, reason="the data you named", source="you", confidence="high"
        )
    if profile is None:
        return DataChoice(paths=spec.data_paths), decisions
    decisions["data.format"] = Decision(
        value=profile.format,
        reason="; ".join(profile.format_evidence) or "the rows look like it",
        source="the rows themselves",
        confidence="high",
    )
    usual = DataChoice().max_length
    wanted = 64 * math.ceil(profile.row_characters_p99 / 3 / 64)
    if profile.format == "completion":
        wanted = min(wanted, usual)
    longest = max(8, min(max(64, wanted), model.context_length or wanted))
    decisions["data.max_length"] = Decision(
        value=longest,
        reason=f"99 of 100 rows have at most {profile.row_characters_p99:,} characters, at three a token",
        source=rule("characters_per_token").source,
        confidence="medium",
    )
    if profile.group_by is not None:
        decisions["data.group_by"] = Decision(
            value=profile.group_by,
            reason=f"rows of one {profile.group_by} are alike: on both sides of the split they would flatter",
            source="the rows themselves",
            confidence="high",
            alternatives=("null: split row by row",),
        )
    data = DataChoice(paths=spec.data_paths, format=profile.format, max_length=longest, group_by=profile.group_by)
    return data, decisions


def _evaluation(task: TaskType, profile: DataProfile | None) -> tuple[EvaluationChoice, dict[str, Decision]]:
    """Choose the metrics by task, and the longest answer by the answers there are."""
    usual = EvaluationChoice()
    metrics, reason = usual.metrics, ""
    closed = task == "classification" or (task == "extraction" and profile is not None and bool(profile.labels))
    if task == "completion":
        metrics, reason = ("perplexity", "bits_per_byte"), "a text has no answer to compare with"
    elif closed:
        metrics, reason = ("perplexity", "bits_per_byte", "exact_match"), "a label is right or wrong, not similar"
    decisions: dict[str, Decision] = {}
    if reason:
        decisions["evaluation.metrics"] = Decision(
            value=metrics, reason=reason, source="the kind of task", confidence="high"
        )
    if profile is None or task == "completion":
        return EvaluationChoice(metrics=metrics), decisions
    longest = min(512, max(16, 16 * math.ceil(profile.answer_characters_p95 / 3 / 16)))
    decisions["evaluation.max_new_tokens"] = Decision(
        value=longest,
        reason=f"95 of 100 answers have at most {profile.answer_characters_p95:,} characters, at three a token",
        source=rule("characters_per_token").source,
        confidence="medium",
    )
    return EvaluationChoice(metrics=metrics, max_new_tokens=longest), decisions


def _fit(plan: Plan, advice: Advice) -> Plan:
    """Split the batch into passes that fit in memory; failing that recompute activations, then cut rows.

    Where nothing fits, the smallest form stays and the readiness check says so.
    """
    rows = advice.batch.micro_batch_size
    sizes = [size for size in range(rows, 0, -1) if rows % size == 0]
    if estimate_memory(plan) is None:
        return _with_passes(plan, rows=rows, size=next(size for size in sizes if size <= 4), why="memory is not known")
    for size in sizes:
        tried = _with_passes(plan, rows=rows, size=size, why="what fits in memory at once")
        if _fits(tried):
            return tried
    recomputing = Decision(
        value=True,
        reason="without it not even one row of full length fits in memory",
        source="the memory estimate",
        confidence="medium",
        alternatives=("false: about a third faster, with more memory",),
    )
    small = _with_passes(plan, rows=rows, size=1, why="what fits in memory at once").model_copy(
        update={"precision": Precision(base_dtype=plan.precision.base_dtype, gradient_checkpointing=True)}
    )
    small = _decided(small, "precision.gradient_checkpointing", recomputing)
    while not _fits(small) and small.data.max_length // 2 >= _SHORTEST_CUT:
        length = small.data.max_length // 2
        cut = Decision(
            value=length,
            reason="longer rows do not fit in memory",
            source="the memory estimate",
            confidence="medium",
            alternatives=(f"{plan.data.max_length}: loses no row, with more memory",),
        )
        small = small.model_copy(update={"data": small.data.model_copy(update={"max_length": length})})
        small = _decided(small, "data.max_length", cut)
    return small


def _fits(plan: Plan) -> bool:
    memory = estimate_memory(plan)
    return memory is not None and memory.value.high <= usable_memory_bytes(plan)


def _with_passes(plan: Plan, *, rows: int, size: int, why: str) -> Plan:
    passes = rows // size
    advised = plan.decisions["batch.micro_batch_size"]
    reason = advised.reason if passes == 1 else f"{advised.reason}; {size} is {why}"
    micro = advised.model_copy(
        update={"value": size, "reason": reason, "interval": _at_most(advised.interval, rows // passes)}
    )
    accumulated = Decision(
        value=passes,
        reason=f"one pass of {size} rows makes a step"
        if passes == 1
        else f"{passes} passes of {size} rows make the {rows} rows of a step",
        source="the memory estimate",
        confidence="high",
    )
    plan = plan.model_copy(update={"batch": Batch(micro_batch_size=size, gradient_accumulation_steps=passes)})
    return _decided(_decided(plan, "batch.micro_batch_size", micro), "batch.gradient_accumulation_steps", accumulated)


def _at_most(interval: Interval | None, value: float) -> Interval | None:
    if interval is None:
        return None
    return Interval(low=min(interval.low, value), mid=value, high=max(interval.high, value))


def _decided(plan: Plan, path: str, decision: Decision) -> Plan:
    return plan.model_copy(update={"decisions": {**plan.decisions, path: decision}})


def _notes(plan: Plan) -> Iterator[str]:
    """Say what the user should know first."""
    profile, needs = plan.profile, plan.data_needs
    if profile is None:
        yield "No data were given: row counts, lengths and duration are unknown until you add --data FILE."
    elif profile.num_rows < needs.minimum_samples:
        yield (
            f"With {profile.num_rows} rows, examples in the prompt usually do better than fine-tuning; "
            f"come back with {needs.minimum_samples} or more."
        )
    elif profile.num_rows < needs.recommended_samples:
        yield f"{profile.num_rows} rows will show an effect; {needs.recommended_samples} are recommended for this task."
    if _NEW_FACTS.search(plan.task.description):
        yield (
            "Fine-tuning teaches form and behaviour well and new facts badly: for facts that change or must be exact, "
            "put the right passage into the prompt (retrieval)."
        )
    if plan.model.shape is None:
        yield f"The dimensions of {plan.model.name} are not known here, so memory and duration are not estimated."
    elif plan.model.shape.num_experts > 1:
        yield f"{plan.model.name} is a mixture of experts, for which memory and duration are not estimated."
    rate = plan.decisions.get("optimizer.learning_rate")
    if rate is not None and rate.interval is not None and rate.confidence == "low":
        low, high = format_number(rate.interval.low), format_number(rate.interval.high)
        yield f"The best learning rate may lie anywhere from {low} to {high}: try two or three values."
    if plan.method.kind == "full" and plan.optimizer.learning_rate >= 2e-4:
        yield (
            f"A learning rate of {format_number(plan.optimizer.learning_rate)} suits LoRA; "
            f"full training usually wants a tenth of it."
        )
    if len(plan.hardware.gpus) > 1:
        yield f"Training uses one GPU; the other {len(plan.hardware.gpus) - 1} stay idle."
    if profile is not None and split_sizes(plan, profile).validation < 10:
        yield "Fewer than ten validation rows choose the checkpoint, so that choice is partly luck."
