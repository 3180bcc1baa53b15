"""The numbers of a run, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from finetune_exe.domain.document import Value
from finetune_exe.domain.method_kinds import method_kind
from finetune_exe.domain.plan import (
    METHOD_TYPES,
    BaseModelChoice,
    Batch,
    Checkpoints,
    Method,
    Optimizer,
    Precision,
    Prefix,
    Schedule,
    WarmupFraction,
)  # fmt: skip
from finetune_exe.domain.task import DataProfile, PresetName, TaskSpec
from finetune_exe.domain.values import Decision, Hardware, Interval, Leaf
from finetune_exe.estimate.duration import saved_bytes
from finetune_exe.estimate.parameters import count_lora_parameters
from finetune_exe.knowledge.presets import Preset, find_preset
from finetune_exe.knowledge.rules import rule
from finetune_exe.planning.adapter import advise_adapter, advise_rounding
from finetune_exe.planning.learning_rate import advise_learning_rate, advise_preference_rate
from finetune_exe.planning.method import advise_method
from finetune_exe.planning.pace import advise_batch, advise_checkpoints, advise_epochs, advise_pace
from finetune_exe.planning.precision import advise_masters, advise_precision

V = TypeVar("V", bound=Value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The advised groups of a plan and why."""

    method: Method
    optimizer: Optimizer
    schedule: Schedule
    batch: Batch
    """All rows of a step in one pass; how many fit in memory at once is decided later."""
    precision: Precision
    checkpoints: Checkpoints
    decisions: dict[str, Decision]


def advise(
    spec: TaskSpec,
    *,
    profile: DataProfile | None,
    model: BaseModelChoice,
    hardware: Hardware,
    wished: Mapping[str, Leaf],
) -> Advice:
    """Choose method, learning rate, length, batch, adapter and precision, by rule or from the preset wished for.

    Args:
        spec: The question; its method and preset are wishes.
        profile: What the data show, of the rows that will be used.
        model: The base model.
        hardware: What it runs on.
        wished: Settings the user fixed, by dotted path; what depends on them follows.
    """
    num_rows = profile.num_rows if profile else spec.num_rows
    preset = None if spec.preset == "auto" else find_preset(spec.preset)
    method = advise_method(spec, profile=profile, model=model)
    kind = method_kind(method.value)
    epochs = _of_preset(preset, lambda column: column.epochs) or advise_epochs(num_rows)
    passes = _number(wished.get("schedule.epochs", epochs.value))
    batch = _of_preset(preset, lambda column: column.batch_size) or advise_batch(
        num_rows, epochs=passes, full=kind == "full"
    )
    rows = int(_number(batch.value))
    optimizer = str(wished.get("optimizer.kind", "adamw"))
    decisions = {
        "method.kind": method,
        "optimizer.learning_rate": _of_preset(preset, lambda column: column.learning_rate)
        or advise_learning_rate(model, method=kind, optimizer=optimizer, rows=rows),
        "schedule.epochs": epochs,
        "batch.micro_batch_size": batch,
        **advise_pace(preset, method=kind),
        **advise_precision(hardware),
    }
    if kind in ("lora", "qlora"):
        rank = _of_preset(preset, lambda column: column.lora_rank)
        decisions |= advise_adapter(profile, model, preset_rank=rank, on_gpu=bool(hardware.gpus))
    if kind == "qlora":
        decisions |= advise_rounding(model)
    if kind in ("prefix", "prompt"):
        decisions["method.num_virtual_tokens"] = _prefix_length()
    if kind == "full":
        decisions |= advise_masters(hardware, base_dtype=wished.get("precision.base_dtype"))
    if wished.get("objective.kind") == "dpo":
        decisions["optimizer.learning_rate"] = advise_preference_rate(optimizer=optimizer)
        decisions["objective.beta"] = _beta()
    if optimizer == "lion":
        decisions["optimizer.beta2"] = _beta2_of_lion()
    decisions |= advise_checkpoints(
        epochs=passes, checkpoint_bytes=_checkpoint_bytes(model, decisions), disk_free_bytes=hardware.disk_free_bytes
    )
    return Advice(
        method=_group(METHOD_TYPES[kind], decisions, "method"),
        optimizer=_group(Optimizer, decisions, "optimizer"),
        schedule=_group(Schedule, decisions, "schedule", warmup=_group(WarmupFraction, decisions, "schedule.warmup")),
        batch=Batch(micro_batch_size=rows),
        precision=_group(Precision, decisions, "precision"),
        checkpoints=_group(Checkpoints, decisions, "checkpoints"),
        decisions=decisions,
    )


def _group(kind: type[V], decisions: Mapping[str, Decision], prefix: str, **fields: Any) -> V:
    """Build a group of settings from the decisions right below its path."""
    decided = {
        path.rpartition(".")[2]: decision.value
        for path, decision in decisions.items()
        if path.rpartition(".")[0] == prefix
    }
    return kind.model_validate({**decided, **fields})


def _number(value: Leaf) -> float:
    assert isinstance(value, int | float)
    return value


def _of_preset(preset: Preset | None, field: Callable[[Preset], float]) -> Decision | None:
    """Take a value from the preset's column; the three columns span its interval."""
    if preset is None:
        return None
    value, all_values = field(preset), [field(find_preset(name)) for name in get_args(PresetName)]
    return Decision(
        value=value,
        reason=f"the preset {preset.name} says so",
        source=preset.source,
        confidence="medium",
        interval=Interval(low=min(all_values), mid=value, high=max(all_values)),
        would_change="--preset auto: values from the task, the data and the model",
    )


def _prefix_length() -> Decision:
    known, usual = rule("prefix_length"), Prefix()
    return known.decides(
        usual.num_virtual_tokens,
        "learned positions before every row; more learn more and take room in the context",
        interval=Interval(low=known["low"], mid=float(usual.num_virtual_tokens), high=known["high"]),
    )


def _beta() -> Decision:
    known = rule("dpo")
    return known.decides(
        known["beta"],
        "customary; less lets the model move further from what it was, for better and worse",
        interval=Interval(low=known["beta_low"], mid=known["beta"], high=known["beta_high"]),
    )


def _beta2_of_lion() -> Decision:
    known = rule("lion")
    return known.decides(known["beta2"], "Lion's one state forgets faster than AdamW's mean of squares")


def _checkpoint_bytes(model: BaseModelChoice, decisions: Mapping[str, Decision]) -> float | None:
    if model.shape is None or model.num_parameters is None:
        return None
    if "method.lora_rank" in decisions:
        return saved_bytes(count_lora_parameters(model.shape, rank=int(_number(decisions["method.lora_rank"].value))))
    return saved_bytes(model.num_parameters)
