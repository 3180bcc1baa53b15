"""DeepSpeed's ZeRO, for the trainers that are told of it by a file or a value of its own form."""

from __future__ import annotations

import json

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.yaml_tree import Json
from finetune_exe.export.configuration_file import Key, key
from finetune_exe.export.exporter import File, Files

FILE_NAME = "deepspeed.json"


def deepspeed_settings(plan: Plan) -> dict[str, Json] | None:
    """Give DeepSpeed's configuration, every number as the trainer has it too; None where the plan does not use it.

    The optimizer is left to the trainer, and so are its rates. Trained weights are put together when they are saved.

    Source: deepspeed.ai/docs/config-json, checked against DeepSpeed 0.19.8's own classes.
    """
    stage = plan.parallelism.zero_stage
    if stage is None:
        return None
    zero: dict[str, Json] = {"stage": stage, "overlap_comm": True, "contiguous_gradients": True}
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    rows, accumulation = plan.batch.micro_batch_size, plan.batch.gradient_accumulation_steps
    return {
        "zero_optimization": zero,
        "bf16": {"enabled": plan.precision.base_dtype == "bfloat16"},
        "fp16": {"enabled": plan.precision.base_dtype == "float16"},
        "train_micro_batch_size_per_gpu": rows,
        "gradient_accumulation_steps": accumulation,
        "train_batch_size": rows * accumulation * plan.parallelism.num_gpus,
        "gradient_clipping": plan.optimizer.max_grad_norm or 0.0,
        "zero_allow_untested_optimizer": True,
    }


def deepspeed_keys(plan: Plan) -> tuple[Key, ...]:
    """Give the key that names the file; none where the plan does not use DeepSpeed."""
    used = plan.parallelism.zero_stage is not None
    return (key("deepspeed", FILE_NAME, "parallelism.kind"),) if used else ()


def deepspeed_file(plan: Plan) -> Files:
    """Give the file that the key names; none where the plan does not use DeepSpeed."""
    settings = deepspeed_settings(plan)
    return () if settings is None else (File(name=FILE_NAME, text=json.dumps(settings, indent=2) + "\n"),)
