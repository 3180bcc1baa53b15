"""Keys that several trainers share: those of transformers' Trainer, and optimizers named by their class."""

from __future__ import annotations

import math
from collections.abc import Iterator

from finetune_exe.domain.plan import Dpo, LowRank, Plan
from finetune_exe.domain.yaml_tree import Json
from finetune_exe.errors import FineTuneError
from finetune_exe.export.configuration_file import Key, key
from finetune_exe.knowledge.gpus import known_gpu
from finetune_exe.knowledge.trainer_names import OPTIMIZER_CLASSES, TRAINER_OPTIMIZERS, TRAINER_SCHEDULES

TRAINER_DIFFERS = (
    "the first step has a learning rate of zero where there is a warm-up",
    "evaluations come every so many steps of all, not of an epoch",
)
"""What the Trainer does in another way than this program's own loop."""


def trainer_keys(plan: Plan) -> Iterator[Key]:
    """Give the optimizer's numbers, the accumulation, the measuring and keeping of checkpoints, and the seed."""
    optimizer, checkpoints = plan.optimizer, plan.checkpoints
    accumulation = plan.batch.gradient_accumulation_steps
    yield key("gradient_accumulation_steps", accumulation, "batch.gradient_accumulation_steps")
    yield key("max_steps", plan.schedule.max_steps, "schedule.max_steps")
    yield key("learning_rate", optimizer.learning_rate, "optimizer.learning_rate")
    yield key("weight_decay", optimizer.weight_decay, "optimizer.weight_decay")
    yield key("adam_beta1", optimizer.beta1, "optimizer.beta1")
    yield key("adam_beta2", optimizer.beta2, "optimizer.beta2")
    yield key("max_grad_norm", optimizer.max_grad_norm or 0.0, "optimizer.max_grad_norm")
    yield key("bf16", plan.precision.base_dtype == "bfloat16", "precision.base_dtype")
    yield key("fp16", True if plan.precision.base_dtype == "float16" else None)
    share = evaluation_share(plan)
    yield key("eval_strategy", "steps")
    yield key("eval_steps", share, "checkpoints.evaluations_per_epoch", note="of all steps")
    yield key("save_strategy", "steps")
    yield key("save_steps", share, note="of all steps")
    yield key("save_total_limit", checkpoints.keep_last + 1, "checkpoints.keep_last", note="the best one too")
    yield key("load_best_model_at_end", True)
    yield key("metric_for_best_model", "eval_loss")
    yield key("greater_is_better", False)
    yield key("seed", plan.seed, "seed")
    yield key("output_dir", "run")


def evaluation_share(plan: Plan) -> float:
    """Give the share of all steps between two evaluations.

    Rounded down: the Trainer rounds the steps up, and the last evaluation must not fall behind the last step.
    """
    share = min(0.99, 1 / (plan.checkpoints.evaluations_per_epoch * plan.schedule.epochs))
    return math.floor(share * 1e6) / 1e6


def optimizer_key(plan: Plan, *, name: str) -> Iterator[Key]:
    """Give the kind of optimizer under the trainer's `name` for it."""
    yield key(name, TRAINER_OPTIMIZERS[plan.optimizer.kind], "optimizer.kind")


def schedule_key(plan: Plan, *, name: str) -> Iterator[Key]:
    """Give the schedule under the trainer's `name` for it; not wsd, whose fall is a number of steps there."""
    kind = plan.schedule.kind
    if kind != "wsd":
        yield key(name, TRAINER_SCHEDULES.get(kind, kind), "schedule.kind")


def warmup_keys(plan: Plan, *, share: str) -> Iterator[Key]:
    """Give the warm-up; `share` is the trainer's name of a warm-up that is a share of all steps."""
    warmup = plan.schedule.warmup
    if warmup.kind == "fraction":
        yield key(share, warmup.fraction, "schedule.warmup.kind", "schedule.warmup.fraction", note="of all steps")
    else:
        yield key("warmup_steps", warmup.steps, "schedule.warmup.kind", "schedule.warmup.steps")


def transformers_keys(plan: Plan) -> Iterator[Key]:
    """Give what trainers that pass on the arguments of transformers name as it does: rows, epochs, optimizer."""
    rows = plan.batch.micro_batch_size
    yield key("per_device_train_batch_size", rows, "batch.micro_batch_size")
    yield key("per_device_eval_batch_size", rows)
    yield key("num_train_epochs", plan.schedule.epochs, "schedule.epochs")
    yield from optimizer_key(plan, name="optim")
    yield from schedule_key(plan, name="lr_scheduler_type")
    yield from warmup_keys(plan, share="warmup_ratio")
    yield key("use_cpu", None if plan.hardware.gpus else True)
    yield key("logging_steps", 1)
    yield from tf32_key(plan)
    yield from trainer_keys(plan)


def tf32_key(plan: Plan, *, automatic: bool = False) -> Iterator[Key]:
    """Give whether products of float32 use TF32; a trainer that is told so refuses to begin on a GPU that has it not.

    Args:
        plan: The plan.
        automatic: Whether the trainer has a word for "where there is a GPU that has it".
    """
    able: Json = "auto" if automatic else True if _has_tf32(plan) else None
    yield key("tf32", able if plan.precision.tf32 else False, "precision.tf32")


def _has_tf32(plan: Plan) -> bool:
    gpu = known_gpu(plan.hardware.gpus[0].name) if plan.hardware.gpus else None
    return gpu is not None and gpu.tf32_tflops > 0


def plain_alpha(method: LowRank) -> float:
    """Give the alpha that scales by alpha / rank as the plan scales, for trainers that know no other way."""
    return method.lora_alpha * math.sqrt(method.lora_rank) if method.use_rslora else method.lora_alpha


def pairs_keys(plan: Plan, *, beta: str) -> Iterator[Key]:
    """Give what learning from pairs depends on, under the trainer's name for it; nothing where answers are learned."""
    if isinstance(plan.objective, Dpo):
        yield key(beta, plan.objective.beta, "objective.beta")


def low_rank_keys(method: LowRank, *, rank: str, prefix: str = "", drops: bool = True) -> Iterator[Key]:
    """Give the adapter's numbers; a scale that is no whole number is left out where the trainer takes none.

    Args:
        method: The adapter.
        rank: The trainer's name of its rank.
        prefix: What the trainer puts before PEFT's own names.
        drops: Whether the trainer lets adapters drop inputs; those of pairs switch that off.
    """
    yield key(rank, method.lora_rank, "method.lora_rank")
    if method.lora_alpha == int(method.lora_alpha):
        yield key("lora_alpha", int(method.lora_alpha), "method.lora_alpha")
    if drops or not method.lora_dropout:
        yield key("lora_dropout", method.lora_dropout, "method.lora_dropout")
    yield key(f"{prefix}use_rslora", method.use_rslora, "method.use_rslora")
    yield key(f"{prefix}use_dora", method.use_dora, "method.use_dora")


def optimizer_class(plan: Plan, *, title: str, target: str) -> tuple[str, dict[str, Json]]:
    """Give the class of the plan's optimizer and what it is made with.

    Raises:
        FineTuneError: O03 for one that has no class of this kind.
    """
    optimizer = plan.optimizer
    if optimizer.kind not in OPTIMIZER_CLASSES:
        raise unknown_optimizer(plan, title, target=target)
    betas: list[Json] = [optimizer.beta1, optimizer.beta2]
    return OPTIMIZER_CLASSES[optimizer.kind], {
        "lr": optimizer.learning_rate, "betas": betas, "weight_decay": optimizer.weight_decay,
    }  # fmt: skip


OPTIMIZER_PATHS = (
    "optimizer.kind", "optimizer.learning_rate", "optimizer.beta1", "optimizer.beta2", "optimizer.weight_decay",
)  # fmt: skip
"""The settings that `optimizer_class` stands for."""


def unknown_optimizer(plan: Plan, title: str, *, target: str) -> FineTuneError:
    """Say that a trainer has not the plan's optimizer."""
    return FineTuneError(
        "O03",
        what=f"{title} has no optimizer.kind={plan.optimizer.kind}",
        where=f"--to {target}",
        why="another rule needs another learning rate",
        fix="--set optimizer.kind=adamw; or --to trl or python, which write scripts",
    )
