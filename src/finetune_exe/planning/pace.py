"""How long to train, in steps of how many rows, and when to look and to stop."""

from __future__ import annotations

import math

from finetune_exe.domain.method_kinds import MethodKind
from finetune_exe.domain.plan import Checkpoints, DataChoice, Optimizer
from finetune_exe.domain.values import Decision, Interval
from finetune_exe.knowledge.presets import Preset
from finetune_exe.knowledge.rules import rule


def advise_epochs(num_rows: int | None) -> Decision:
    """Choose the passes over the rows by how many rows there are."""
    known = rule("epochs")
    value, reason = known["usual"], "three passes; the best checkpoint is kept and the run stops early if it gets worse"
    if num_rows is not None and num_rows >= known["least_from_rows"]:
        value, reason = known["least"], f"{num_rows:,} rows teach enough in one pass"
    elif num_rows is not None and num_rows >= known["fewer_from_rows"]:
        value, reason = known["fewer"], f"{num_rows:,} rows need fewer passes than the customary three"
    return known.decides(
        value,
        reason,
        interval=Interval(low=min(1.0, value), mid=value, high=max(5.0, value)),
        would_change="a validation loss still falling at the end (more), or rising before it (fewer)",
    )


def advise_batch(num_rows: int | None, *, epochs: float, full: bool) -> Decision:
    """Choose the rows of one optimizer step: small enough for a few hundred steps, and for LoRA where it is LoRA."""
    known = rule("batch_of_full" if full else "batch")
    if num_rows is None:
        rows, reason = 8, "a small batch; how many rows there are is not known yet"
    else:
        wanted = min(known["high"], max(known["low"], num_rows * epochs / known["steps"]))
        rows = 2 ** round(math.log2(wanted))
        data = DataChoice()
        trained = num_rows * (1 - data.validation_fraction - data.test_fraction)
        reason = f"{rows} rows a step make about {max(1, round(trained * epochs / rows)):,} steps"
    return known.decides(
        rows,
        reason,
        interval=Interval(low=min(known["low"], rows), mid=float(rows), high=known["high"]),
        would_change="more rows, or a training loss too noisy to fall",
    )


def advise_pace(preset: Preset | None, *, method: MethodKind) -> dict[str, Decision]:
    """Decide schedule, warm-up, weight decay, clipping and optimizer, by dotted path."""
    usual = Optimizer()
    schedule, decay, clip, states = (rule(name) for name in ("schedule", "weight_decay", "clip", "optimizer"))
    warmup = preset.warmup_fraction if preset else rule("warmup")["fraction"]
    return {
        "schedule.kind": schedule.decides(
            "cosine",
            "falling to zero at the end; cosine and linear were measured alike",
            alternatives=("linear: as good", "constant: where the length of the run is not known beforehand"),
        ),
        "schedule.warmup.fraction": Decision(
            value=warmup,
            reason=f"the preset {preset.name} says so"
            if preset
            else "the learning rate rises over the first steps, so that the optimizer's averages settle",
            source=preset.source if preset else rule("warmup").source,
            confidence="medium",
            interval=Interval(low=0.0, mid=warmup, high=max(0.1, warmup)),
            would_change="a loss that jumps up in the first steps: 0.1",
        ),
        "optimizer.kind": states.decides(
            "adamw",
            (
                "every weight has 8 bytes of states: 8-bit ones are taken where only they fit"
                if method == "full"
                else "the adapters are small: 8-bit states would save next to nothing"
            ),
        ),
        "optimizer.weight_decay": decay.decides(
            usual.weight_decay,
            "the validation loss hardly depends on it in so short a training",
            interval=Interval(low=0.0, mid=usual.weight_decay, high=decay["high"]),
        ),
        "optimizer.max_grad_norm": clip.decides(
            clip["value"],
            "cuts rare spikes and leaves ordinary steps alone",
            interval=clip.interval,
            would_change="spikes of the loss: 0.3",
        ),
    }


def advise_checkpoints(
    *, epochs: float, checkpoint_bytes: float | None, disk_free_bytes: int | None
) -> dict[str, Decision]:
    """Decide how often to validate and keep, and how many checkpoints the disk bears.

    A pass over the validation rows costs about half of training on them (no backward pass), which bounds how often
    it is worth its time.
    """
    known, data, usual = rule("validation_cost"), DataChoice(), Checkpoints()
    train = 1 - data.validation_fraction - data.test_fraction
    affordable = known["share"] * train / (data.validation_fraction * known["cost_of_a_row"])
    often = float(max(1, min(usual.evaluations_per_epoch, math.floor(affordable))))
    looks = round(often * epochs)
    kept, why = usual.keep_last, "the best one and the last two"
    room = known["share_of_disk"] * disk_free_bytes if disk_free_bytes is not None else math.inf
    if checkpoint_bytes and (kept + 1) * checkpoint_bytes > room:
        kept, why = 1, "the best one and the last: more would fill the disk"
    return {
        "checkpoints.evaluations_per_epoch": known.decides(
            often,
            f"{looks} looks at the validation loss, for at most {known['share']:.0%} of the time",
            interval=Interval(low=1.0, mid=often, high=max(often, 10.0)),
            would_change="a long run on few validation rows: more often",
        ),
        "checkpoints.keep_last": Decision(
            value=kept, reason=why, source="the size of a checkpoint against the free disk", confidence="high"
        ),
        "checkpoints.save_every_minutes": _cadence(checkpoint_bytes),
        "checkpoints.samples_per_evaluation": Decision(
            value=usual.samples_per_evaluation,
            reason="answers to read while the run goes on, left out where they would take more than 2 % of the time",
            source="default",
            confidence="high",
            would_change="nobody watches: 0",
        ),
        "checkpoints.early_stopping_patience": rule("early_stopping").decides(
            usual.early_stopping_patience,
            "stops when so many looks in a row bring nothing better; the best checkpoint is kept in any case",
            would_change="noisy validation (fewer than about 30 rows): more patience",
        ),
    }


def _cadence(checkpoint_bytes: float | None) -> Decision:
    """Decide how old the last checkpoint may get between evaluations."""
    known = rule("checkpoint_cadence")
    writing = (checkpoint_bytes or 0.0) / known["bytes_per_second"]
    minutes = max(known["minutes"], float(math.ceil(writing / known["share"] / 60)))
    return known.decides(
        minutes,
        f"a kill loses {minutes:g} minutes at most, and saving takes {known['share']:.0%} of the time at most",
        interval=Interval(low=1.0, mid=minutes, high=max(60.0, minutes)),
        would_change="a machine that is often taken away: more often",
    )
