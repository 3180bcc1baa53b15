"""What else was possible: methods, base models, and every way to run that was weighed."""

from __future__ import annotations

from finetune_exe.domain.method_kinds import METHOD_NAMES
from finetune_exe.domain.plan import Candidate, Considered, MethodOption, Plan
from finetune_exe.domain.values import Decision, Interval
from finetune_exe.report.numbers import UNKNOWN, format_interval, format_quantity, format_setting
from finetune_exe.report.page import Block, Bullet, Heading, Table, Words
from finetune_exe.units import format_count, format_gib, format_parameters

_QUALITY = (
    "Quality: right answers on GSM8K in %, and forgetting (rise of the loss on Wikipedia), as PEFT's method comparison "
    "measured them on Llama-3.2-3B; 3.8 points are noise. It tells methods apart, and foretells nothing of your task."
)
_USUAL = ("full", "lora", "qlora")
"""Methods that are always weighed against one another; the others are shown with the whole explanation."""
_NEXT = 2
"""Base models named beside the chosen one, where the whole explanation was not asked for."""


def methods_in_short(plan: Plan) -> str:
    """Say what the usual methods would take instead of the chosen one."""
    others = [option for option in plan.methods if not option.chosen and option.kind in _USUAL and option.memory]
    return "; ".join(f"{METHOD_NAMES[option.kind]} {_takes(option)}" for option in others)


def _takes(option: MethodOption) -> str:
    assert option.memory is not None, "listed with its memory"
    pace = option.tokens_per_second
    needs = format_gib(option.memory.mid)
    if option.fits is False:
        return f"does not fit ({needs}, perhaps {format_gib(option.memory.high)})"
    return f"{needs}, at its fastest {format_quantity(pace.mid, 'tokens_per_second')}" if pace else needs


def models_in_short(plan: Plan) -> str:
    """Name the next base models, and the better one that does not fit."""
    others = [candidate for candidate in plan.shortlist if not candidate.chosen]
    larger = [f"too large for 16 bit here: {one.name}" for one in others if one.is_too_large]
    fine = [one.name for one in others if not one.is_too_large]
    return "; ".join([", ".join(fine[:_NEXT]), *larger[:1]]).strip("; ")


def _method(option: MethodOption) -> str:
    return f"{METHOD_NAMES[option.kind]}{' (chosen)' if option.chosen else ''}"


def _model(candidate: Candidate) -> str:
    return f"{candidate.name}{' (chosen)' if candidate.chosen else ''}"


def _memory_kind(plan: Plan) -> str:
    return "VRAM" if plan.hardware.gpus else "RAM"


def method_table(plan: Plan) -> list[Block]:
    """Show what each method would take here, and what was measured of it."""
    if not plan.methods:
        return []
    rows = tuple(
        (
            _method(option),
            _needs(option.memory, option.fits),
            format_interval(option.tokens_per_second, "tokens_per_second") if option.tokens_per_second else UNKNOWN,
            option.quality,
            option.use_case,
        )
        for option in plan.methods
    )
    header = ("Method", _memory_kind(plan), "Speed", "Quality", "Use Case")
    return [Heading("FINE-TUNING METHODS"), Table(header=header, rows=rows), Words(_QUALITY)]


def _needs(memory: Interval | None, fits: bool | None) -> str:
    if memory is None:
        return UNKNOWN
    return format_interval(memory, "bytes", remark="" if fits is not False else "does not fit")


def model_table(plan: Plan) -> list[Block]:
    """Show the base models that were considered, best first, with all that speaks for and against them."""
    if not plan.shortlist:
        return []
    rows = tuple(
        (
            _model(candidate),
            format_parameters(candidate.num_parameters),
            candidate.license,
            "; ".join(candidate.reasons),
        )
        for candidate in plan.shortlist
    )
    header = ("Model", "Size", "Licence", "Why, and why not")
    return [Heading("BASE MODELS"), Table(header=header, rows=rows, form="plan")]


def explanation(plan: Plan) -> list[Block]:
    """Show every way to run that was weighed, and what would change each decision."""
    blocks: list[Block] = []
    if plan.considered:
        rows = tuple(
            (entry.verdict, _form(entry), format_gib(entry.memory_bytes), _pace(entry)) for entry in plan.considered
        )
        header = ("Verdict", "Way to run", "Memory, at most", "Tokens/s")
        blocks += [Heading("WAYS TO RUN THAT WERE WEIGHED"), Table(header=header, rows=rows)]
    changes = [
        Bullet(f"{path} = {format_setting(decision.value)}: {'; '.join(_doubts(decision))}")
        for path, decision in plan.decisions.items()
        if decision.alternatives or decision.would_change
    ]
    return [*blocks, Heading("WHAT WOULD CHANGE THE ADVICE"), *changes]


def _doubts(decision: Decision) -> list[str]:
    changed = [f"changed by {decision.would_change}"] if decision.would_change else []
    return [*(f"or {alternative}" for alternative in decision.alternatives), *changed]


def _form(entry: Considered) -> str:
    """Say in words what sets a way to run apart."""
    settings = entry.settings
    words = [
        METHOD_NAMES[entry.method],
        f"{settings['batch.micro_batch_size']} x {settings['batch.gradient_accumulation_steps']} rows "
        f"of up to {settings['data.max_length']} tokens",
    ]
    words += ["checkpointing"] if settings["precision.gradient_checkpointing"] else []
    words += ["8-bit states"] if "8bit" in str(settings["optimizer.kind"]) else []
    if settings["parallelism.kind"] != "none":
        words.append(f"{settings['parallelism.kind']} on {settings['parallelism.num_gpus']} GPUs")
    return ", ".join(words)


def _pace(entry: Considered) -> str:
    return UNKNOWN if entry.tokens_per_second is None else format_count(entry.tokens_per_second)
