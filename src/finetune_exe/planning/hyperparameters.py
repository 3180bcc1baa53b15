"""The numbers of a run, each with its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass

from finetune_exe.domain.plan import (
    BaseModelChoice,
    Batch,
    Full,
    Lora,
    Method,
    Optimizer,
    Precision,
    Schedule,
    WarmupFraction,
)  # fmt: skip
from finetune_exe.domain.task import DataProfile, TaskSpec
from finetune_exe.domain.values import Decision, Hardware, Interval
from finetune_exe.estimate.parameters import count_lora_parameters
from finetune_exe.estimate.rows import learned_share, tokens_of
from finetune_exe.knowledge.models import find_model_of_shape
from finetune_exe.knowledge.presets import Preset, find_preset
from finetune_exe.knowledge.rules import rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The advised groups of a plan and why."""

    method: Method
    optimizer: Optimizer
    schedule: Schedule
    batch: Batch
    """All rows of a step in one pass; how many fit in memory at once is decided later."""
    precision: Precision
    decisions: dict[str, Decision]


def advise(spec: TaskSpec, *, profile: DataProfile | None, model: BaseModelChoice, hardware: Hardware) -> Advice:
    """Choose method, learning rate, length, batch, rank and precision, by rule or from the preset wished for."""
    preset = None if spec.preset == "auto" else find_preset(spec.preset)
    full = spec.method == "full"
    epochs = _of_preset(preset, "epochs") or _epochs(profile)
    rate = _of_preset(preset, "learning_rate") or _learning_rate(model, full=full)
    batch = _of_preset(preset, "batch_size") or _batch(profile, epochs=_number(epochs))
    decisions = {
        "method.kind": _method(full=full),
        "optimizer.learning_rate": rate,
        "schedule.epochs": epochs,
        "batch.micro_batch_size": batch,
    }
    warmup = preset.warmup_fraction if preset else rule("warmup")["fraction"]
    decisions["schedule.warmup.fraction"] = Decision(
        value=warmup,
        reason="the learning rate rises over the first steps, so that the optimizer's averages settle",
        source=preset.source if preset else rule("warmup").source,
        confidence="medium",
    )
    method: Method = Full()
    if not full:
        rank = _of_preset(preset, "lora_rank") or _rank(profile, model)
        decisions["method.lora_rank"] = rank
        dropout = 0.0
        if profile is not None and profile.num_rows < rule("dropout")["below_rows"]:
            dropout = rule("dropout")["value"]
            decisions["method.lora_dropout"] = Decision(
                value=dropout,
                reason=f"{profile.num_rows} rows are few: dropout slows learning them by heart",
                source=rule("dropout").source,
                confidence=rule("dropout").confidence,
            )
        method = Lora(lora_rank=int(_number(rank)), lora_dropout=dropout)
    if hardware.computes_bf16:
        decisions["precision.base_dtype"] = Decision(
            value="bfloat16",
            reason="computed in hardware: half the memory, faster products; what is trained stays float32",
            source="LoRA step of SmolLM2-135M measured on 2 AMX cores: 331 tokens/s in bfloat16, 129 in float32",
            confidence="high",
            alternatives=("float32: exact, but slower and twice the weights",),
        )
    return Advice(
        method=method,
        optimizer=Optimizer(learning_rate=_number(rate)),
        schedule=Schedule(epochs=_number(epochs), warmup=WarmupFraction(fraction=warmup)),
        batch=Batch(micro_batch_size=int(_number(batch))),
        precision=Precision(base_dtype="bfloat16" if hardware.computes_bf16 else "float32"),
        decisions=decisions,
    )


def _number(decision: Decision) -> float:
    assert isinstance(decision.value, int | float)
    return decision.value


def _of_preset(preset: Preset | None, field: str) -> Decision | None:
    """Take a value from the preset's column; the three columns span its interval."""
    if preset is None:
        return None
    columns = [find_preset(name) for name in ("conservative", "balanced", "aggressive")]
    values: dict[str, tuple[float, list[float]]] = {
        "learning_rate": (preset.learning_rate, [column.learning_rate for column in columns]),
        "epochs": (preset.epochs, [column.epochs for column in columns]),
        "batch_size": (preset.batch_size, [column.batch_size for column in columns]),
        "lora_rank": (preset.lora_rank, [column.lora_rank for column in columns]),
    }
    value, all_values = values[field]
    return Decision(
        value=value,
        reason=f"the preset {preset.name} says so",
        source=preset.source,
        confidence="medium",
        interval=Interval(low=min(all_values), mid=value, high=max(all_values)),
    )


def _method(*, full: bool) -> Decision:
    if full:
        return Decision(
            value="full",
            reason="you asked to train every weight; it takes several times the memory of LoRA and forgets more",
            source="Biderman et al. 2024, LoRA Learns Less and Forgets Less",
            confidence="high",
            alternatives=("lora: as good for most tasks, and it forgets less",),
        )
    return Decision(
        value="lora",
        reason="adapters learn such tasks as well as full training, in a fraction of the memory, and forget less",
        source="LoRA Without Regret (2025); Biderman et al. 2024",
        confidence="high",
        alternatives=("full: for millions of rows or a new language or domain, with ten times less learning rate",),
    )


def _learning_rate(model: BaseModelChoice, *, full: bool) -> Decision:
    """Apply the fitted formula to the families it was fitted to; elsewhere take the customary value.

    Source: tinker-cookbook, get_lr: LR = 5e-5 * 10 * (2000 / hidden size) ** p.
    """
    family = _family(model)
    scale = 1 / rule("learning_rate")["lora_factor"] if full else 1.0
    of_full = "; a tenth of LoRA's, as every weight moves" if full else ""
    if family is None or model.shape is None:
        usual = rule("learning_rate_elsewhere")
        return Decision(
            value=_two_digits(usual["value"] * scale),
            reason=f"the customary value; no formula is fitted to this family of models{of_full}",
            source=usual.source,
            confidence=usual.confidence,
            interval=Interval(low=usual["low"] * scale, mid=usual["value"] * scale, high=usual["high"] * scale),
        )
    fitted, hidden = rule("learning_rate"), model.shape.hidden_size
    exponent = fitted[f"exponent_{family}"]
    wide = fitted["reference_hidden_size"] / hidden
    value = _two_digits(fitted["scale"] * fitted["lora_factor"] * wide**exponent * scale)
    small = rule("learning_rate_small")
    if hidden < small["smallest_hidden_size"]:
        return Decision(
            value=value,
            reason=f"fitted to {family.title()} models by width, but to none as narrow as {hidden}{of_full}",
            source=fitted.source,
            confidence=small.confidence,
            interval=Interval(low=value * small["low_factor"], mid=value, high=value * small["high_factor"]),
        )
    return Decision(
        value=value,
        reason=f"fitted to {family.title()} models by their width ({hidden}){of_full}",
        source=fitted.source,
        confidence=fitted.confidence,
        interval=Interval(low=value / 2, mid=value, high=value * 2),
    )


def _family(model: BaseModelChoice) -> str | None:
    """Name the family a learning rate formula is fitted to, by dimensions or, failing that, by name."""
    facts = find_model_of_shape(model.shape) if model.shape else None
    text = facts.family if facts else model.name.lower()
    return next((family for family in ("llama", "qwen") if family in text), None)


def _epochs(profile: DataProfile | None) -> Decision:
    known = rule("epochs")
    value, reason = known["usual"], "three passes; the best checkpoint is kept and the run stops early if it gets worse"
    if profile is not None and profile.num_rows >= known["least_from_rows"]:
        value, reason = known["least"], f"{profile.num_rows:,} rows teach enough in one pass"
    elif profile is not None and profile.num_rows >= known["fewer_from_rows"]:
        value, reason = known["fewer"], f"{profile.num_rows:,} rows need fewer passes than the customary three"
    return Decision(
        value=value,
        reason=reason,
        source=known.source,
        confidence=known.confidence,
        interval=Interval(low=min(1.0, value), mid=value, high=max(5.0, value)),
    )


def _batch(profile: DataProfile | None, *, epochs: float) -> Decision:
    known = rule("batch")
    if profile is None:
        rows, reason = 8, "a small batch; how many rows there are is not known yet"
    else:
        wanted = min(known["high"], max(known["low"], profile.num_rows * epochs / known["steps"]))
        rows = 2 ** round(math.log2(wanted))
        reason = f"{rows} rows a step make about {max(1, round(profile.num_rows * epochs / rows)):,} steps of the data"
    return Decision(
        value=rows,
        reason=reason,
        source=known.source,
        confidence=known.confidence,
        interval=Interval(low=known["low"], mid=float(rows), high=known["high"]),
    )


def _rank(profile: DataProfile | None, model: BaseModelChoice) -> Decision:
    """Take the customary rank, or more where the answers hold more tokens than the adapter has weights."""
    known = rule("lora_rank")
    rank, reason = int(known["usual"]), "customary, and more than enough for most tasks"
    if profile is not None and model.shape is not None:
        tokens = profile.num_rows * tokens_of(profile.row_characters_mean, longest=math.inf).mid
        learned = tokens * learned_share(profile).mid
        per_rank = count_lora_parameters(model.shape, rank=1)
        reason = f"about {learned:,.0f} learned tokens fit in {rank * per_rank:,} adapter weights"
        if learned > rank * per_rank:
            rank = int(min(known["most"], 2 ** math.ceil(math.log2(learned / per_rank))))
            reason = f"about {learned:,.0f} learned tokens want as many adapter weights"
    return Decision(
        value=rank,
        reason=reason,
        source=known.source,
        confidence=known.confidence,
        interval=Interval(low=8.0, mid=float(rank), high=max(64.0, float(rank))),
    )


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")
