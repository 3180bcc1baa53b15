"""What the run would take otherwise: by each method, as in the specification's table, and with a larger model."""

from __future__ import annotations

from finetune_exe.domain.method_kinds import MethodKind
from finetune_exe.domain.plan import METHOD_TYPES, LowRank, MethodOption, Plan
from finetune_exe.estimate.duration import estimate_cost, estimate_duration, estimate_speed
from finetune_exe.estimate.memory import estimate_memory
from finetune_exe.knowledge.methods import MethodFacts, method_facts
from finetune_exe.planning.fit import find_fit, fits_memory, unfitted
from finetune_exe.planning.model import describe_model
from finetune_exe.planning.readiness import wished_limits

_FIXED = ("method.kind", "data.max_length")
_LARGER = 1.5
"""How much larger a model in 4 bit must be before it is worth a word: the published pairs differ by two."""


def method_options(plan: Plan) -> tuple[MethodOption, ...]:
    """Put the plan into the fastest form of every method that fits, and say what it takes and what was measured."""
    return tuple(_option(plan, facts) for facts in method_facts())


def _option(plan: Plan, facts: MethodFacts) -> MethodOption:
    chosen = facts.kind == plan.method.kind
    form, fits = plan, fits_memory(plan)
    if not chosen:
        fit = find_fit(_as(plan, facts.kind), fixed=_FIXED)
        form, fits = fit.plan, fit.fits
    memory, speed = estimate_memory(form), estimate_speed(form)
    return MethodOption(
        kind=facts.kind,
        memory=memory.value if memory else None,
        tokens_per_second=speed.value if speed and fits else None,
        quality=facts.quality,
        use_case=facts.use_case,
        fits=fits,
        chosen=chosen,
    )


def larger_in_4_bit(plan: Plan) -> Plan | None:
    """Put the run on a better base model that fits in 4 bit alone, the largest on the shortlist that keeps the limits.

    Returns:
        The run with that model in its fastest form, with its estimates; None where there is none, or no adapter.
    """
    chosen = next((candidate for candidate in plan.shortlist if candidate.chosen), None)
    if chosen is None or plan.model.name != chosen.name or plan.method.kind not in ("lora", "qlora"):
        return None
    least = _LARGER * chosen.num_parameters
    larger = [candidate for candidate in plan.shortlist if candidate.num_parameters >= least and candidate.is_too_large]
    for candidate in sorted(larger, key=lambda candidate: candidate.num_parameters, reverse=True):
        run = plan.model_copy(update={"model": describe_model(candidate.reference)})
        fit = find_fit(_as(run, "qlora"), fixed=_FIXED)
        expected = estimated(fit.plan)
        if fit.fits and keeps_limits(expected):
            return expected
    return None


def keeps_limits(plan: Plan) -> bool:
    """Say whether what is expected of a plan keeps within the hours and the money that were given."""
    return all(limit.is_kept for limit in wished_limits(plan))


def estimated(plan: Plan) -> Plan:
    """Give a plan its estimates anew."""
    duration = estimate_duration(plan)
    found = {"memory": estimate_memory(plan), "duration": duration, "cost": estimate_cost(plan, duration)}
    return plan.model_copy(
        update={"estimates": {name: estimate for name, estimate in found.items() if estimate is not None}}
    )


def _as(plan: Plan, method: MethodKind) -> Plan:
    """Give the plan another method, an adapter keeping its form, as the search for what fits begins with it."""
    kind = METHOD_TYPES[method]
    shared = set(LowRank.model_fields) - {"kind"} if issubclass(kind, LowRank) else set()
    form = kind.model_validate(plan.method.model_dump(include=shared))
    return unfitted(plan).model_copy(update={"method": form})
