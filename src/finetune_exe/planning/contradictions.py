"""Pairs of settings that cannot both be meant."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from finetune_exe.domain.plan import Full, Plan, Prefix, Prompt, Qlora, WarmupSteps
from finetune_exe.domain.values import Leaf
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.rows import split_sizes

Pair = tuple[str, str, str]
"""Two dotted paths, and why their values exclude each other."""


def refuse_contradictions(plan: Plan) -> None:
    """Refuse a plan two of whose settings exclude each other.

    Raises:
        FineTuneError: C11, naming both with their values, and why.
    """
    pairs = [pair for rule in CONTRADICTIONS for pair in rule(plan)]
    if not pairs:
        return
    values: dict[str, Leaf] = {path: value for path, value, _ in plan.settings()}
    changed = plan.changed_by_user()
    theirs = {path for path, decision in plan.decisions.items() if decision.source == "you"} | set(changed)
    raise FineTuneError(
        "C11",
        what="; ".join(why for _, _, why in pairs),
        where="; ".join(
            " and ".join(f"{path}={_shown(values[path])}" for path in (first, second)) for first, second, _ in pairs
        ),
        why="one of the two would silently win",
        fix="; ".join(
            f"change {first if first in theirs or second not in theirs else second}, or the other"
            for first, second, _ in pairs
        ),
    )


def _shown(value: Leaf) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _gpus(plan: Plan) -> Iterator[Pair]:
    form, count = plan.parallelism.kind, plan.parallelism.num_gpus
    if form == "none" and count > 1:
        yield "parallelism.num_gpus", "parallelism.kind", f"{count} GPUs cannot train together without ddp or fsdp"
    if form == "deepspeed_zero3" and isinstance(plan.method, Qlora):
        yield (
            "parallelism.kind",
            "method.kind",
            "weights in 4 bit stay whole on each GPU; deepspeed_zero2 leaves them so",
        )
    if form != "none" and count == 1:
        yield "parallelism.kind", "parallelism.num_gpus", f"{form} spreads the work over several GPUs, and there is one"


def _packing(plan: Plan) -> Iterator[Pair]:
    if plan.batch.packing and isinstance(plan.method, Prefix | Prompt):
        yield (
            "batch.packing",
            "method.kind",
            "what is learned stands before each row of a batch, and packed rows are one",
        )


def _warmup(plan: Plan) -> Iterator[Pair]:
    if not isinstance(plan.schedule.warmup, WarmupSteps):
        return
    steps, rising = _num_steps(plan), plan.schedule.warmup.steps
    if steps is not None and rising >= steps:
        other = "schedule.max_steps" if plan.schedule.max_steps is not None else "schedule.epochs"
        yield "schedule.warmup.steps", other, f"{rising} steps of warm-up, and the run has {steps} steps"


def _stopping(plan: Plan) -> Iterator[Pair]:
    patience = plan.checkpoints.early_stopping_patience
    looks = plan.checkpoints.evaluations_per_epoch * plan.schedule.epochs
    if patience is not None and patience >= looks and _chosen(plan, "checkpoints.early_stopping_patience"):
        yield (
            "checkpoints.early_stopping_patience",
            "checkpoints.evaluations_per_epoch",
            f"{looks:g} looks at the validation loss can never be {patience} without improvement after the first",
        )


def _pairs(plan: Plan) -> Iterator[Pair]:
    if plan.objective.kind == "dpo" and plan.data.format != "preference":
        yield ("objective.kind", "data.format", "pairs are learned from rows in the layout preference, named as such")
    if plan.objective.kind == "dpo" and plan.data.on_too_long == "truncate_prompt":
        yield "objective.kind", "data.on_too_long", "a pair that is too long can be dropped or refused, not cut"
    if plan.objective.kind == "dpo" and plan.data.canaries:
        yield "objective.kind", "data.canaries", "a planted secret has no worse answer to be held against"


def _answers(plan: Plan) -> Iterator[Pair]:
    asked = [metric for metric in plan.evaluation.metrics if metric in ("chrf", "rouge_l", "exact_match")]
    if asked and plan.evaluation.max_generations == 0:
        yield "evaluation.max_generations", "evaluation.metrics", f"{', '.join(asked)} need generated answers"


def _masters(plan: Plan) -> Iterator[Pair]:
    if isinstance(plan.method, Full) and plan.method.masters != "float32" and plan.precision.base_dtype != "bfloat16":
        yield "method.masters", "precision.base_dtype", f"{plan.method.masters} keeps the weights in bfloat16"


def _steps(plan: Plan) -> Iterator[Pair]:
    most = plan.schedule.max_steps
    steps = _steps_of_epochs(plan)
    if most is not None and steps is not None and most > steps and _chosen(plan, "schedule.max_steps"):
        why = f"{plan.schedule.epochs:g} epochs end after {steps} steps, so {most} are never reached"
        yield "schedule.max_steps", "schedule.epochs", why


CONTRADICTIONS: tuple[Callable[[Plan], Iterator[Pair]], ...] = (
    _gpus, _packing, _warmup, _stopping, _pairs, _answers, _masters, _steps,
)  # fmt: skip


def _num_steps(plan: Plan) -> int | None:
    counts = [count for count in (plan.schedule.max_steps, _steps_of_epochs(plan)) if count is not None]
    return min(counts, default=None)


def _steps_of_epochs(plan: Plan) -> int | None:
    if plan.profile is None:
        return None
    rows = split_sizes(plan).train * plan.schedule.epochs
    return math.ceil(rows / (plan.batch.effective * plan.parallelism.num_gpus))


def _chosen(plan: Plan, path: str) -> bool:
    """Say whether the user set this themselves."""
    return path in plan.changed_by_user() or (path in plan.decisions and plan.decisions[path].source == "you")
