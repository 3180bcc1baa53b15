"""From a question to a plan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from finetune_exe.domain.method_kinds import method_kind
from finetune_exe.domain.plan import BaseModelChoice, Candidate, EvaluationChoice, Plan, Task
from finetune_exe.domain.plan_yaml import apply_settings
from finetune_exe.domain.task import DataProfile, TaskSpec, TaskType
from finetune_exe.domain.values import Decision, Estimate, Hardware, Leaf
from finetune_exe.estimate.duration import estimate_cost, estimate_duration, estimate_speed, speed_key
from finetune_exe.estimate.memory import estimate_memory
from finetune_exe.estimate.rows import usable_rows
from finetune_exe.knowledge.licenses import known_license
from finetune_exe.knowledge.rules import rule
from finetune_exe.planning.contradictions import refuse_contradictions
from finetune_exe.planning.data_choice import choose_data
from finetune_exe.planning.data_needs import data_needs
from finetune_exe.planning.fit import fit_plan
from finetune_exe.planning.hyperparameters import advise
from finetune_exe.planning.model import describe_model, is_family
from finetune_exe.planning.notes import notes
from finetune_exe.planning.options import method_options
from finetune_exe.planning.packing import advise_packing
from finetune_exe.planning.readiness import check_readiness
from finetune_exe.planning.shortlist import shortlist
from finetune_exe.planning.task import DeclinedTaskError, Reading, classify_task
from finetune_exe.planning.ways_out import refuse_impossible

_MOST_NEW_TOKENS, _MOST_THINKING_TOKENS = 512, 4096
"""Longest answer that is waited for; one cut off while it thinks says nothing at all."""
_MARKS = 16
"""Tokens around what an answer thinks, generously."""


def analyze(
    spec: TaskSpec,
    *,
    profile: DataProfile | None,
    hardware: Hardware,
    settings: Sequence[str] = (),
    speed: Estimate | None = None,
) -> Plan:
    """Decide a fine-tuning run: task, method, hyperparameters, fit into memory, evaluation, and what to expect.

    Args:
        spec: What is asked for.
        profile: What the data show; None where none were given.
        hardware: The machine the run is planned for.
        settings: `path=value` wishes that override the advice; what depends on them follows.
        speed: Training tokens a second, where they were measured on it.

    Raises:
        DeclinedTaskError: Where the task is none for a language model.
        FineTuneError: C10 where the wishes cannot be met; C11 where
            two settings exclude each other; C04 for a setting that is none.
    """
    reading = classify_task(spec.description, profile, told=spec.task_type)
    if reading.type == "other":
        raise DeclinedTaskError(_task(spec, reading, profile))
    candidates: tuple[Candidate, ...] = ()
    if spec.model is None or is_family(spec.model):
        candidates = shortlist(spec, task=reading.type, profile=profile, hardware=hardware)
    model = describe_model(next((candidate.reference for candidate in candidates), spec.model or ""))
    draft = _draft(spec, reading, profile, model, hardware, candidates, wished={})
    fixed = {assignment.partition("=")[0] for assignment in settings}
    if settings:
        wished = {path: value for path, value, _ in apply_settings(draft, settings).settings() if path in fixed}
        if "model.reference" in wished:
            model, candidates = describe_model(str(wished["model.reference"])), ()
        draft = apply_settings(_draft(spec, reading, profile, model, hardware, candidates, wished=wished), settings)
    if spec.method is not None:
        fixed.add("method.kind")
    plan = refresh(advise_packing(fit_plan(draft, fixed=fixed), fixed=fixed), speed=speed)
    refuse_impossible(plan, spec, fixed=fixed)
    return plan


def _draft(
    spec: TaskSpec,
    reading: Reading,
    profile: DataProfile | None,
    model: BaseModelChoice,
    hardware: Hardware,
    candidates: Sequence[Candidate],
    *,
    wished: Mapping[str, Leaf],
) -> Plan:
    """Decide everything but what depends on the memory: all rows of a step go in one pass."""
    if "method.kind" in wished:
        spec = spec.model_copy(update={"method": method_kind(wished["method.kind"])})
    used = None if profile is None else _of_used_rows(profile, wished)
    advice = advise(spec, profile=used, model=model, hardware=hardware, wished=wished)
    data, data_decisions = choose_data(spec, task=reading.type, profile=used, model=model, wished=wished)
    evaluation, evaluation_decisions = _evaluation(reading.type, profile)
    return Plan(
        inputs={"task": spec.digest()},
        task=_task(spec, reading, profile),
        model=model,
        data=data,
        method=advice.method,
        optimizer=advice.optimizer,
        schedule=advice.schedule,
        batch=advice.batch,
        precision=advice.precision,
        checkpoints=advice.checkpoints,
        evaluation=evaluation,
        hardware=hardware,
        shortlist=tuple(candidates),
        profile=profile,
        data_needs=data_needs(reading.type, profile),
        decisions={
            "task.type": _kind_decision(reading),
            "model.reference": _model_decision(model, candidates, permissive=spec.permissive_license),
            **data_decisions,
            **advice.decisions,
            **evaluation_decisions,
        },
    )


def _of_used_rows(profile: DataProfile, wished: Mapping[str, Leaf]) -> DataProfile:
    """Count in a profile the rows alone that something is learned from."""
    rows = usable_rows(profile, deduplicate=wished.get("data.deduplicate") is not False)
    most = wished.get("data.max_rows")
    return profile.model_copy(update={"num_rows": max(1, min(rows, most) if isinstance(most, int) else rows)})


def _task(spec: TaskSpec, reading: Reading, profile: DataProfile | None) -> Task:
    return Task(
        description=spec.description,
        type=reading.type,
        evidence=reading.evidence,
        heard=spec.heard,
        num_rows=None if profile else spec.num_rows,
        hours=spec.hours,
        budget_usd=spec.budget_usd,
    )


def _kind_decision(reading: Reading) -> Decision:
    return Decision(
        value=reading.type,
        reason="; ".join(reading.evidence),
        source=reading.source,
        confidence=reading.confidence,
        alternatives=reading.others,
    )


def refresh(plan: Plan, *, speed: Estimate | None = None) -> Plan:
    """Compute again what follows from the settings: estimates, readiness, notes, and the facts of another base model.

    Args:
        plan: A plan whose settings may have been edited; they and the decisions stay.
        speed: Training tokens a second, where they were measured; a measurement that the plan holds is kept as long as
            the settings are those it was made under.
    """
    if "model.reference" in plan.changed_by_user() or plan.model.name == plan.model.reference:
        model = describe_model(plan.model.reference).model_copy(update={"revision": plan.model.revision})
        plan = plan.model_copy(update={"model": model})
    plan = plan.model_copy(update={"data_needs": data_needs(plan.task.type, plan.profile)})
    known = plan.estimates.get("speed")
    if speed is None and known is not None and known.holds_for == speed_key(plan):
        speed = known
    duration = estimate_duration(plan, speed=speed)
    found: list[tuple[str, Estimate | None]] = [
        ("memory", estimate_memory(plan)),
        ("duration", duration),
        ("speed", speed or estimate_speed(plan)),
        ("cost", estimate_cost(plan, duration)),
    ]
    estimates = {name: estimate for name, estimate in found if estimate is not None}
    plan = plan.model_copy(update={"estimates": estimates, "methods": method_options(plan)})
    refuse_contradictions(plan)
    return plan.model_copy(update={"readiness": check_readiness(plan), "notes": notes(plan)})


def _model_decision(model: BaseModelChoice, candidates: Sequence[Candidate], *, permissive: bool) -> Decision:
    """Defend the base model: by the user's wish, or by what spoke for it on the shortlist."""
    chosen = next((candidate for candidate in candidates if candidate.reference == model.reference), None)
    if chosen is None:
        terms, reason = known_license(model.license), "you asked for it"
        if permissive and not (terms and terms.permissive):
            own = f"its own, {model.license}, is" if model.license else "its own is"
            reason += f", though you allow permissive licences alone: {own} {'none' if terms else 'not known here'}"
        return Decision(value=model.reference, reason=reason, source="you", confidence="high")
    # that it fits by rule of thumb the estimate says better
    reasons = chosen.reasons if chosen.is_too_large else chosen.reasons[1:]
    return Decision(
        value=model.reference,
        reason="; ".join(reasons[:2]),
        source="docs/guides/base-models.md: facts of known models with their sources, and how they are ranked",
        confidence="medium",
        alternatives=tuple(
            f"{other.reference}: {'; '.join(other.reasons[:2])}" for other in candidates if other is not chosen
        ),
        would_change="a measurement on your own test rows: train the first two and compare",
    )


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
    most, marks = (_MOST_THINKING_TOKENS, _MARKS) if profile.mostly_thinks else (_MOST_NEW_TOKENS, 0)
    longest = min(most, max(16, 16 * math.ceil(profile.answer_characters_p95 / 3 / 16)) + marks)
    decisions["evaluation.max_new_tokens"] = Decision(
        value=longest,
        reason=f"95 of 100 answers have at most {profile.answer_characters_p95:,} characters, at three a token",
        source=rule("characters_per_token").source,
        confidence="medium",
    )
    return EvaluationChoice(metrics=metrics, max_new_tokens=longest), decisions
