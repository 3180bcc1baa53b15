"""The learning rate, by method and model."""

from __future__ import annotations

import math

from finetune_exe.domain.method_kinds import MethodKind
from finetune_exe.domain.plan import BaseModelChoice
from finetune_exe.domain.values import Decision, Interval
from finetune_exe.knowledge.models import find_model_of_shape
from finetune_exe.knowledge.rules import rule

_FLAT = 0.5
"""Share of the best rate that costs next to nothing."""


def advise_learning_rate(
    model: BaseModelChoice, *, method: MethodKind, optimizer: str = "adamw", rows: int | None = None
) -> Decision:
    """Apply the formula to the families it was fitted to; elsewhere take the customary value, with a wider interval.

    Args:
        model: The base model.
        method: How it is trained.
        optimizer: What follows the gradients.
        rows: Rows of a step; few widen the interval downwards.

    Source: tinker-cookbook, get_lr: LR = 5e-5 * 10 * (2000 / hidden size) ** p; below its range, benchmarks/advice.md.
    """
    few = method in ("prefix", "prompt", "ia3")
    advice = _of_few(method) if few else _of_weights(model, full=method == "full", rows=rows)
    return _with_signs(advice) if optimizer == "lion" else advice


def _of_weights(model: BaseModelChoice, *, full: bool, rows: int | None) -> Decision:
    """Give the rate of AdamW for adapters, or for all weights."""
    family = _family(model)
    scale = 1 / rule("learning_rate")["lora_factor"] if full else 1.0
    of_full = "; a tenth of LoRA's, as every weight moves" if full else ""
    if family is None or model.shape is None:
        usual = rule("learning_rate_elsewhere")
        return usual.decides(
            _two_digits(usual["value"] * scale),
            f"the customary value; no formula is fitted to this family of models{of_full}",
            interval=Interval(low=usual["low"] * scale, mid=usual["value"] * scale, high=usual["high"] * scale),
            would_change="a sweep over the interval (fine-tune tune), or a formula fitted to this family",
        )
    fitted, hidden = rule("learning_rate"), model.shape.hidden_size
    wide = fitted["reference_hidden_size"] / hidden
    value = _two_digits(fitted["scale"] * fitted["lora_factor"] * wide ** fitted[f"exponent_{family}"] * scale)
    small = rule("learning_rate_small")
    narrow = hidden < small["smallest_hidden_size"]
    reason = (
        f"fitted to {family.title()} models by width, but to none as narrow as {hidden}"
        if narrow
        else f"fitted to {family.title()} models by their width ({hidden})"
    )
    low, high = (small["low_factor"], small["high_factor"]) if narrow else (_fewer_rows(rows), 2.0)
    source, confidence = fitted.source, small.confidence if narrow else fitted.confidence
    if not narrow and low < _FLAT:
        confidence = rule("learning_rate_batch").confidence
        reason += f", at 128 rows a step: with {rows} it may be lower"
        source += f"; {rule('learning_rate_batch').source}"
    return Decision(
        value=value,
        reason=reason + of_full,
        source=source,
        confidence=confidence,
        interval=Interval(low=_two_digits(value * low), mid=value, high=_two_digits(value * high)),
        would_change="a sweep over the interval (fine-tune tune): the optimum is flat, a factor of two costs little",
    )


def _fewer_rows(rows: int | None) -> float:
    """Give the lower bound over the formula's rate: half of it, or what the square root of the rows makes of it."""
    return _FLAT if rows is None else min(_FLAT, math.sqrt(rows / rule("learning_rate_batch")["fitted_rows"]))


def advise_preference_rate(*, optimizer: str) -> Decision:
    """Give the rate of adapters that learn from pairs: far below that of answers."""
    known = rule("dpo")
    advice = known.decides(
        known["value"],
        "pairs need far smaller steps than answers do: larger ones make both answers unlikely",
        interval=known.interval,
        would_change="a reward margin that hardly rises (more), or a validation loss that rises (less)",
    )
    return _with_signs(advice) if optimizer == "lion" else advice


def _with_signs(advice: Decision) -> Decision:
    """Lower a rate of AdamW for Lion, whose every step is as long as the rate."""
    known = rule("lion")
    assert isinstance(advice.value, float)
    assert advice.interval is not None
    value = _two_digits(advice.value * known["learning_rate"])
    return advice.model_copy(
        update={
            "value": value,
            "reason": f"{advice.reason}; {known['learning_rate']:g} of AdamW's, as Lion moves each weight by all of it",
            "source": f"{known.source}; {advice.source}",
            "confidence": known.confidence,
            "interval": Interval(
                low=_two_digits(advice.interval.low * known["low"]),
                mid=value,
                high=_two_digits(advice.interval.high * known["high"]),
            ),
        }
    )


def _of_few(method: MethodKind) -> Decision:
    """Give the rate of a method whose few numbers start far from where they are useful."""
    known = rule(f"learning_rate_{method}")
    return known.decides(
        known["value"],
        known.says.partition(": ")[2],
        interval=known.interval,
        would_change="a sweep over the interval (fine-tune tune)",
    )


def _family(model: BaseModelChoice) -> str | None:
    """Name the family a learning rate formula is fitted to, by dimensions or, failing that, by name."""
    facts = find_model_of_shape(model.shape) if model.shape else None
    text = facts.family if facts else model.name.lower()
    return next((family for family in ("llama", "qwen") if family in text), None)


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")
