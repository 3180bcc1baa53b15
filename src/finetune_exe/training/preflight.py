"""What this trainer cannot do is said before anything is loaded."""

from __future__ import annotations

from finetune_exe.domain.method_kinds import MethodKind
from finetune_exe.domain.plan import Parallelism, Plan
from finetune_exe.errors import FineTuneError
from finetune_exe.models.load import pick_device, require_training_packages
from finetune_exe.training.optimizers import FROM_BITSANDBYTES

SWITCHABLE: tuple[MethodKind, ...] = ("lora", "qlora", "ia3")
"""Methods that can be switched off in the model they are part of."""


def check_trainable(plan: Plan) -> None:
    """Refuse a plan with settings that would not be in force.

    Raises:
        FineTuneError: T02 for settings that cannot be honoured, X01 for a missing package.
    """
    if plan.parallelism != Parallelism():
        raise FineTuneError(
            "T02",
            what=f"the plan spreads the training over {plan.parallelism.num_gpus} GPUs "
            f"(parallelism.kind={plan.parallelism.kind})",
            where="parallelism in the plan",
            why="`fine-tune train` is one process on one device; the other GPUs would stand idle without a word",
            fix="`fine-tune config --to trl` writes a script for all of them; for one device: "
            "--set parallelism.kind=none --set parallelism.num_gpus=1",
        )
    if plan.method.kind == "prefix" and plan.precision.gradient_checkpointing:
        raise FineTuneError(
            "T02",
            what="activations cannot be computed again where a prefix is learned",
            where="method.kind and precision.gradient_checkpointing in the plan",
            why="layers that are computed again drop the keys and values before the row: nothing would be learned",
            fix="--set precision.gradient_checkpointing=false with a smaller batch.micro_batch_size; "
            "or --set method.kind=lora",
        )
    if plan.objective.kind == "dpo" and plan.method.kind not in SWITCHABLE:
        raise FineTuneError(
            "T02",
            what=f"pairs cannot be learned with method.kind={plan.method.kind}",
            where="objective.kind and method.kind in the plan",
            why="the model as it was is the reference, which an adapter leaves beside it and this method does not",
            fix=f"--set method.kind=lora (or {', '.join(kind for kind in SWITCHABLE if kind != 'lora')})",
        )
    packages = ("bitsandbytes",) if needs_bitsandbytes(plan) else ()
    require_training_packages(*packages)
    if plan.optimizer.kind == "paged_adamw_8bit" and pick_device() == "cpu":
        raise FineTuneError(
            "T02",
            what="paged states need an NVIDIA GPU",
            where="optimizer.kind in the plan",
            why="they move between the GPU's memory and the processor's, and there is no GPU here",
            fix="--set optimizer.kind=adamw_8bit, whose states are as small",
        )


def needs_bitsandbytes(plan: Plan) -> bool:
    """Say whether the plan keeps weights in 4 bit, or takes its optimizer from bitsandbytes."""
    return plan.method.kind == "qlora" or plan.optimizer.kind in FROM_BITSANDBYTES
