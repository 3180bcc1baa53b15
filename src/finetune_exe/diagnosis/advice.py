"""What to do about a cause in this very run: with the run's own numbers, in the tool's own words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from finetune_exe.diagnosis.material import Material
from finetune_exe.diagnosis.signals import Signal
from finetune_exe.diagnosis.table import Cause
from finetune_exe.diagnosis.tools import tools
from finetune_exe.domain.values import Leaf, Scalar

_RATES = {"lora": 1e-4, "full": 1e-5, "prefix": 3e-3}
"""Learning rates that are safe for each method; a rate is not scaled past them. Source: knowledge/rules.toml."""
_HIGHEST_FACTOR = 10
_AT_MOST = {"optimizer.max_grad_norm", "schedule.epochs", "checkpoints.keep_last"}
_AT_LEAST = {"schedule.warmup.fraction", "method.lora_dropout", "data.max_length"}
"""Settings that a patch only lowers, or only raises."""
_LOOKS_TO_STOP = 3
"""Looks at the validation loss under which stopping early decides nothing."""
_ONLY_WHERE_KNOWN = {"data.max_length"}
_SHOWN_TOOLS = ("trl", "axolotl", "llamafactory")


class Advice(NamedTuple):
    """What to change."""

    fix: str
    patch: dict[str, Scalar]
    """Settings of our plan, by dotted path."""
    fix_in: dict[str, tuple[str, ...]]
    """Lines of a configuration, by tool."""
    own_keys: dict[str, Scalar]
    """Keys of the tool's own that are to be set as well."""


def advise(cause: Cause, *, place: str | None, signals: Sequence[Signal], material: Material) -> Advice:
    """Make the advice of the table that of this run.

    Where the tool is known the lines are in its words alone, else in those of the most used ones.
    """
    own = cause.places.get(place) if place else None
    known, complete = _known(material)
    patch = {
        path: value
        for path, value in (own.patch if own and own.patch is not None else cause.patch).items()
        if (path in known or not complete) and _mends(path, value, known)
    }
    fix, stop = _quantified(cause, signals, known, material)
    for path, factor in cause.scale.items() if stop is None else ():
        present = known.get(path)
        if isinstance(present, int | float) and not isinstance(present, bool):
            scaled = _scaled(path, present, factor, known)
            if math.isfinite(scaled):
                patch[path] = scaled
    if "schedule.epochs" in patch and stop is not None:
        patch["schedule.epochs"] = stop
        looks = known.get("checkpoints.evaluations_per_epoch")
        if isinstance(looks, int | float) and looks * stop <= _LOOKS_TO_STOP:
            patch.pop("checkpoints.early_stopping_patience", None)
    said = own.fix if own and own.fix else cause.fix
    special = dict(cause.fix_in) | dict(own.fix_in if own else {})
    keys = _own_keys((own.set_in if own else None) or cause.set_in, material)
    written = in_words_of(material.tool, patch, special=special)
    if material.tool and keys:
        shown = tuple(tools()[material.tool].form_line(key, value) for key, value in keys.items())
        written[material.tool] = written.get(material.tool, ()) + shown
    return Advice(fix=f"{fix} {said}" if fix else said, patch=patch, fix_in=written, own_keys=keys)


def _mends(path: str, value: Scalar, known: Mapping[str, Leaf]) -> bool:
    """Say whether a setting is to be changed: none is loosened that is already as tight, or taken out where none is."""
    present = known.get(path, ...)
    if isinstance(present, int | float) and isinstance(value, int | float) and not isinstance(present, bool):
        tight = (path in _AT_MOST and present <= value) or (path in _AT_LEAST and present >= value)
        return not tight and present != value
    given = path in known or (value is not None and path not in _ONLY_WHERE_KNOWN)
    return given and present != value


def _own_keys(keys: Mapping[str, Mapping[str, Scalar]], material: Material) -> dict[str, Scalar]:
    """Choose the keys of this run's tool; what is to be taken out must be there."""
    values = material.values
    wanted = keys.get(material.tool or "", {})
    return {key: value for key, value in wanted.items()
            if values.get(key, ...) != value and (value is not None or key in values)}  # fmt: skip


def in_words_of(
    tool: str | None, patch: Mapping[str, Scalar], *, special: Mapping[str, str] = MappingProxyType({})
) -> dict[str, tuple[str, ...]]:
    """Write settings as lines of a tool's configuration; of the most used tools where it is not known."""
    wanted = (tool,) if tool and tool in tools() else _SHOWN_TOOLS
    written = {}
    for name in wanted:
        lines = [line for path, value in patch.items() for line in tools()[name].lines(path, value)]
        if special.get(name):
            lines.append(special[name])
        if lines:
            written[name] = tuple(lines)
    return written


def _known(material: Material) -> tuple[Mapping[str, Leaf], bool]:
    """Collect the settings the run had: all of them from its plan, else the little its losses and its tool's words say.

    The second value says whether they are complete, so that a path not among them does not apply.
    """
    if material.plan:
        return {path: value for path, value, _ in material.plan.settings()}, True
    known: dict[str, Leaf] = {}
    for series in [material.scan.metrics.series, *material.histories]:
        if series.peak_learning_rate:
            known["optimizer.learning_rate"] = series.peak_learning_rate
        if series.planned_epochs:
            known["schedule.epochs"] = series.planned_epochs
    return {**known, **material.settings}, False


def _scaled(path: str, present: float, factor: float, known: Mapping[str, Leaf]) -> int | float:
    """Scale a setting; a learning rate that is far too high goes down to what is safe, not a little lower."""
    scaled = present * factor
    if path == "optimizer.learning_rate" and factor < 1:
        kind = str(known.get("method.kind") or "lora").lower()
        safe = _RATES["full"] if "full" in kind else _RATES["prefix"] if "prefix" in kind else _RATES["lora"]
        if present > _HIGHEST_FACTOR * safe:
            scaled = min(scaled, safe)
    rounded = float(f"{scaled:.2g}")
    return round(rounded) if isinstance(present, int) else rounded


def _quantified(
    cause: Cause, signals: Sequence[Signal], known: Mapping[str, Leaf], material: Material
) -> tuple[str, float | None]:
    """Say the fix in the run's numbers; give also the epochs after which to stop, where validation says."""
    first = signals[0] if signals else None
    if cause.label in ("overfitting", "mild_overfitting") and first and first.name == "overfitting" and first.step:
        points = material.series.points
        at = next((p.epoch for p in points if p.step == first.step and p.epoch is not None), None)
        rise = f"Validation loss rose {100 * first.effect:.1f} % after step {first.step:g}"
        where = f"{rise} (epoch {at:.2g}): stop there" if at else f"{rise}: stop there"
        keep = ", and use the checkpoint of that step." if not material.plan else "; that checkpoint is kept."
        return where + keep, None if at is None else max(0.1, round(at, 2))
    if cause.label in ("lr_divergence", "divergence") and first and first.step is not None:
        rate = known.get("optimizer.learning_rate")
        speed = f" at a learning rate of {rate:g}" if isinstance(rate, int | float) else ""
        return f"It began at step {first.step:g}{speed}; start again from a checkpoint before it.", None
    return "", None
