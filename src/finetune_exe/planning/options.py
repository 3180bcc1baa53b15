"""What each method would take on this hardware: the specification's table of methods, computed."""

from __future__ import annotations

from finetune_exe.domain.plan import METHOD_TYPES, LowRank, MethodOption, Plan
from finetune_exe.estimate.duration import estimate_speed
from finetune_exe.estimate.memory import estimate_memory
from finetune_exe.knowledge.methods import MethodFacts, method_facts
from finetune_exe.planning.fit import find_fit, fits_memory, unfitted


def method_options(plan: Plan) -> tuple[MethodOption, ...]:
    """Put the plan into the fastest form of every method that fits, and say what it takes and what was measured."""
    return tuple(_option(plan, facts) for facts in method_facts())


def _option(plan: Plan, facts: MethodFacts) -> MethodOption:
    chosen = facts.kind == plan.method.kind
    form, fits = plan, fits_memory(plan)
    if not chosen:
        fit = find_fit(_as(plan, facts), fixed=("method.kind", "data.max_length"))
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


def _as(plan: Plan, facts: MethodFacts) -> Plan:
    """Give the plan another method, an adapter keeping its form, as the search for what fits begins with it."""
    kind = METHOD_TYPES[facts.kind]
    shared = set(LowRank.model_fields) - {"kind"} if issubclass(kind, LowRank) else set()
    method = kind.model_validate(plan.method.model_dump(include=shared))
    return unfitted(plan).model_copy(update={"method": method})
