"""What this trainer cannot do is said before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable

from finetune_exe.domain.method_kinds import MethodKind
from finetune_exe.domain.plan import Full, LowRank, Plan, Qlora
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.parameters import count_adapted_experts
from finetune_exe.estimate.planned import adapted_layers
from finetune_exe.models.load import pick_device, require_training_packages
from finetune_exe.models.ranks import current_ranks
from finetune_exe.training.optimizers import FROM_BITSANDBYTES

SWITCHABLE: tuple[MethodKind, ...] = ("lora", "qlora", "ia3")
"""Methods that can be switched off in the model they are part of."""
_ALONE = "--set parallelism.kind=none --set parallelism.num_gpus=1"


def check_trainable(plan: Plan) -> None:
    """Refuse a plan with settings that would not be in force.

    Raises:
        FineTuneError: T02 for settings that cannot be honoured, X01 for a missing package.
    """
    _refuse(plan, BEFORE_PACKAGES)
    require_training_packages(*(("bitsandbytes",) if needs_bitsandbytes(plan) else ()))
    _refuse(plan, (_paged_without_gpu,))


def needs_bitsandbytes(plan: Plan) -> bool:
    """Say whether the plan keeps weights in 4 bit, or takes its optimizer from bitsandbytes."""
    return plan.method.kind == "qlora" or plan.optimizer.kind in FROM_BITSANDBYTES


Refusal = Callable[[Plan], FineTuneError | None]


def _refuse(plan: Plan, refusals: tuple[Refusal, ...]) -> None:
    for refusal in refusals:
        fault = refusal(plan)
        if fault is not None:
            raise fault


def _deepspeed(plan: Plan) -> FineTuneError | None:
    if plan.parallelism.zero_stage is None:
        return None
    return FineTuneError(
        "T02",
        what=f"this trainer does not train with parallelism.kind={plan.parallelism.kind}",
        where="parallelism.kind in the plan",
        why="DeepSpeed takes over the step and the optimizer, whose numbers this trainer answers for",
        fix="--set parallelism.kind=fsdp, which cuts up the same with PyTorch alone; or with another program, "
        "fine-tune config --plan PLAN --to trl (or axolotl, llamafactory, ms-swift) -o .",
    )


def _other_number_of_processes(plan: Plan) -> FineTuneError | None:
    wanted, there = plan.parallelism.num_gpus, current_ranks().count
    if wanted == there:
        return None
    return FineTuneError(
        "T02",
        what=f"the plan spreads the training over {wanted} processes (parallelism.kind={plan.parallelism.kind}), "
        f"and {there} {'was' if there == 1 else 'were'} started",
        where="parallelism in the plan",
        why="each step would learn from another number of rows than the plan says",
        fix=f"fine-tune train PLAN --launch torchrun --processes {wanted}; for one device: {_ALONE}",
    )


def _inexact_in_parts(plan: Plan) -> FineTuneError | None:
    if plan.parallelism.kind != "fsdp" or plan.can_be_cut_up:
        return None
    masters = f" and masters in {plan.method.masters}" if isinstance(plan.method, Full) else ""
    return FineTuneError(
        "T02",
        what=f"{plan.method.kind} with {plan.optimizer.kind}{masters} cannot be cut up among processes",
        where="parallelism.kind, method and optimizer.kind in the plan",
        why="only LoRA, and full training of float32 weights, stay exact when cut up, with AdamW's float32 states",
        fix="--set parallelism.kind=ddp; or --set optimizer.kind=adamw with "
        + ("--set method.masters=float32" if masters else "--set method.kind=lora"),
    )


def _recomputed_prefix(plan: Plan) -> FineTuneError | None:
    if plan.method.kind != "prefix" or not plan.precision.gradient_checkpointing:
        return None
    return FineTuneError(
        "T02",
        what="activations cannot be computed again where a prefix is learned",
        where="method.kind and precision.gradient_checkpointing in the plan",
        why="layers that are computed again drop the keys and values before the row: nothing would be learned",
        fix="--set precision.gradient_checkpointing=false with a smaller batch.micro_batch_size; "
        "or --set method.kind=lora",
    )


def _experts_with_more_than_factors(plan: Plan) -> FineTuneError | None:
    shape, method = plan.model.shape, plan.method
    if shape is None or not isinstance(method, LowRank) or not (method.use_dora or method.lora_dropout):
        return None
    if not count_adapted_experts(shape, targets=adapted_layers(method)):
        return None
    named = "method.use_dora=false" if method.use_dora else "method.lora_dropout=0.0"
    return FineTuneError(
        "T02",
        what="adapters of experts have neither DoRA's lengths nor dropout",
        where="method in the plan",
        why="the experts of a layer are one tensor, to which PEFT adds their adapters before it is multiplied",
        fix=f"--set {named}; or leave the experts alone: "
        "--set 'method.target_modules=[q_proj, k_proj, v_proj, o_proj]'",
    )


def _pairs_without_reference(plan: Plan) -> FineTuneError | None:
    if plan.objective.kind != "dpo" or plan.method.kind in SWITCHABLE:
        return None
    return FineTuneError(
        "T02",
        what=f"pairs cannot be learned with method.kind={plan.method.kind}",
        where="objective.kind and method.kind in the plan",
        why="the model as it was is the reference, which an adapter leaves beside it and this method does not",
        fix=f"--set method.kind=lora (or {', '.join(kind for kind in SWITCHABLE if kind != 'lora')})",
    )


def _pairs_beside_an_offset(plan: Plan) -> FineTuneError | None:
    if plan.objective.kind != "dpo" or not isinstance(plan.method, Qlora) or not plan.method.offset_rounding:
        return None
    return FineTuneError(
        "T02",
        what="pairs cannot be learned by adapters that begin by offsetting rounding",
        where="objective.kind and method.offset_rounding in the plan",
        why="the reference is the model with its adapter switched off, which would no longer be the model at the start",
        fix="--set method.offset_rounding=false",
    )


def _paged_without_gpu(plan: Plan) -> FineTuneError | None:
    if plan.optimizer.kind != "paged_adamw_8bit" or pick_device() != "cpu":
        return None
    return FineTuneError(
        "T02",
        what="paged states need an NVIDIA GPU",
        where="optimizer.kind in the plan",
        why="they move between the GPU's memory and the processor's, and there is no GPU here",
        fix="--set optimizer.kind=adamw_8bit, whose states are as small",
    )


BEFORE_PACKAGES: tuple[Refusal, ...] = (
    _deepspeed, _other_number_of_processes, _inexact_in_parts, _recomputed_prefix,
    _experts_with_more_than_factors, _pairs_without_reference, _pairs_beside_an_offset,
)  # fmt: skip
"""What is told without PyTorch, in the order in which it is told."""
