"""Scripts that `fine-tune config` wrote: what their constants stand for."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_exe.review.carried import Setting
from finetune_exe.review.configuration import Configuration, is_own

_CONSTANTS = {
    "MODEL": "model.reference", "REVISION": "model.revision", "MAX_LENGTH": "data.max_length",
    "EPOCHS": "schedule.epochs", "MAX_STEPS": "schedule.max_steps", "DECAY_FRACTION": "schedule.decay_fraction",
    "EVALUATIONS_PER_EPOCH": "checkpoints.evaluations_per_epoch", "PATIENCE": "checkpoints.early_stopping_patience",
    "NUM_PROCESSES": "parallelism.num_gpus", "LORA_PLUS_RATIO": "method.lora_plus_ratio",
    "TRAINED_TOKENS": "method.trained_tokens", "OPTIMIZER": "optimizer.kind",
    "LEARNING_RATE": "optimizer.learning_rate", "WEIGHT_DECAY": "optimizer.weight_decay",
    "MAX_GRAD_NORM": "optimizer.max_grad_norm", "SCHEDULE": "schedule.kind", "KEEP_LAST": "checkpoints.keep_last",
    "MICRO_BATCH_SIZE": "batch.micro_batch_size", "GRADIENT_ACCUMULATION_STEPS": "batch.gradient_accumulation_steps",
    "GROUP_BY_LENGTH": "batch.group_by_length", "PACKING": "batch.packing", "BASE_DTYPE": "precision.base_dtype",
    "TF32": "precision.tf32", "GRADIENT_CHECKPOINTING": "precision.gradient_checkpointing",
    "CHECKPOINT_EVERY_LAYERS": "precision.checkpoint_every_layers", "SEED": "seed",
}  # fmt: skip
_ADAPTERS = {"prefix": "num_virtual_tokens", "prompt": "num_virtual_tokens", "ia3": None}


def own_settings(configuration: Configuration) -> Iterator[Setting]:
    """Give what each constant of a script that this program wrote stands for; nothing of others."""
    script = configuration.script
    if script is None or not is_own(script):
        return
    for name, path in _CONSTANTS.items():
        item = script.constants.get(name)
        if item is not None and not item.computed:
            yield Setting(path, item.plain(), name, item.place.line)
    betas = script.constants.get("BETAS")
    pair = betas.plain() if betas is not None else None
    if betas is not None and isinstance(pair, list) and len(pair) == 2:
        yield Setting("optimizer.beta1", pair[0], "BETAS", betas.place.line)
        yield Setting("optimizer.beta2", pair[1], "BETAS", betas.place.line)
    warmup = script.constants.get("WARMUP")
    content = warmup.plain() if warmup is not None else None
    if warmup is not None and isinstance(content, dict):
        for kind in content:
            yield Setting(f"schedule.warmup.{kind}", content[kind], "WARMUP", warmup.place.line)
    adapter = script.constants.get("ADAPTER")
    if adapter is not None and adapter.content is None:
        yield Setting("method.kind", "full", "ADAPTER", adapter.place.line)
    for kind, inner in _ADAPTERS.items():
        group = configuration.settings.get(kind)
        if group is None:
            continue
        yield Setting("method.kind", kind, "ADAPTER", group.place.line)
        number = configuration.settings.get(f"{kind}.{inner}")
        if inner is not None and number is not None:
            yield Setting(f"method.{inner}", number.plain(), "ADAPTER", number.place.line)
