"""A plan as a workload: what this trainer will hold and compute."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, assert_never

from finetune_exe.domain.plan import Full, Ia3, LowRank, OptimizerName, Plan, Prefix, Prompt, Qlora
from finetune_exe.domain.values import Interval, ModelShape
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.parameters import ALL_LINEAR, Target, count_lora_parameters, count_parameters
from finetune_exe.estimate.rows import (
    arrange_passes,
    counted_tokens,
    is_paired,
    judged_tokens,
    learned_share,
    row_tokens,
    sequences_of_pass,
    shared_tokens,
    split_sizes,
)
from finetune_exe.estimate.targets import read_targets
from finetune_exe.estimate.workload import (
    DORA_OUTPUT_BYTES,
    DORA_TOUCHES,
    Adapters,
    FullTraining,
    OptimizerKind,
    Sharding,
    Storage,
    Training,
    Workload,
)
from finetune_exe.knowledge.gpus import GpuFacts, find_gpu

VALIDATION_TOKENS = 4096
"""Tokens, padding included, that a batch of the validation pass holds at most."""
IA3_TARGETS: frozenset[Target] = frozenset({"key", "value", "down"})
"""Layers of Llama that IA3 scales; of some architectures the query in the key's stead, which counts about the same."""
PEAK_LENGTH_ERROR = 0.1
"""Share by which the longest pass may differ from that of a typical draw of the rows that were counted."""


def plan_workload(plan: Plan) -> Workload | None:
    """Make a plan a workload at the middle of what is known of its rows; None without the model's dimensions."""
    shape = plan.model.shape
    if shape is None:
        return None
    half = plan.precision.base_dtype != "float32"
    single = isinstance(plan.method, Full) and plan.method.masters == "float32"
    longest = longest_row(plan)
    passes = arrange_passes(plan)
    return Workload(
        shape=shape,
        num_parameters=plan.model.num_parameters or count_parameters(shape),
        storage=_storage(plan),
        compute_bytes=2 if half else 4,
        stream_bytes=2 if half and not single else 4,
        training=_training(plan, shape),
        optimizer=_optimizer(plan, shape),
        micro_batch_size=sequences_of_pass(plan),
        reference_passes=1.0 if is_paired(plan) else 0.0,
        longest_tokens=longest.mid,
        shared_tokens=shared_tokens(plan),
        ours_on_gpu=bool(plan.hardware.gpus),
        mean_tokens=row_tokens(plan).mid if plan.profile else longest.mid,
        padded_share=passes.padded_share if passes else _usual_padding(plan),
        accumulation=plan.batch.gradient_accumulation_steps,
        checkpointing="full" if plan.precision.gradient_checkpointing else "no",
        recomputed_layers=math.ceil(shape.num_layers / plan.precision.checkpoint_every_layers) / shape.num_layers,
        tf32=plan.precision.tf32,
        one_pass_norms=True,
        one_pass_mlp=shape.gated_mlp and shape.num_experts == 1 and _multiplies_alone(plan),
        loss=_loss(plan),
        learned_share=_learned_share(plan).mid,
        validation_tokens=_validation_tokens(plan),
        sharding=Sharding(
            num_gpus=plan.parallelism.num_gpus,
            weights=plan.parallelism.kind in ("fsdp", "deepspeed_zero3"),
            gradients=plan.parallelism.kind not in ("none", "ddp"),
            states=plan.parallelism.kind not in ("none", "ddp"),
        ),
        gpu=planned_gpu(plan),
        guessed=frozenset() if plan.profile else frozenset({"mean_length"}),
    )


def extremes(plan: Plan, workload: Workload) -> tuple[Workload, Workload]:
    """Give the workload with the shortest and with the longest rows that the data may have."""
    longest, share = longest_row(plan), _learned_share(plan)
    return (
        replace(workload, longest_tokens=longest.low, learned_share=share.low),
        replace(workload, longest_tokens=longest.high, learned_share=share.high),
    )


def longest_row(plan: Plan) -> Interval:
    """Guess the tokens of a row in the longest batch: rows of like length come together, so all of it are long."""
    limit = plan.data.max_length
    if plan.profile is None:
        return Interval(low=limit / 4, mid=limit, high=limit)
    passes = arrange_passes(plan)
    if passes is not None:
        most = passes.longest_tokens
        error = PEAK_LENGTH_ERROR * (most - shared_tokens(plan))  # what all share has none
        return Interval(low=most - error, mid=most, high=min(limit, most + error))
    return judged_tokens(plan.profile, plan.profile.row_characters_p99, longest=limit)


def _learned_share(plan: Plan) -> Interval:
    return learned_share(plan.profile, counted_tokens(plan), paired=is_paired(plan))


def _loss(plan: Plan) -> Literal["full", "sliced", "in_place"]:
    """Say how logits are held: where words are trained beside an output matrix, all at once as PEFT computes them."""
    if isinstance(plan.method, LowRank) and plan.method.trained_tokens:
        return "full"
    return "in_place" if isinstance(plan.method, Full) else "sliced"


def _multiplies_alone(plan: Plan) -> bool:
    """Say whether linear layers are products, with plain adapters or none."""
    match plan.method:
        case LowRank(use_dora=dora, lora_dropout=dropout):
            return not dora and dropout == 0
        case Ia3():
            return False
        case _:
            return True


def _usual_padding(plan: Plan) -> float:
    if plan.batch.packing or plan.batch.micro_batch_size == 1:
        return 0.0
    return 0.05 if plan.batch.group_by_length else 0.5


def planned_gpu(plan: Plan) -> GpuFacts | None:
    """Find the facts of the plan's GPU; None on the CPU and for one known by its memory alone."""
    if not plan.hardware.gpus:
        return None
    try:
        return find_gpu(plan.hardware.gpus[0].name)
    except FineTuneError:
        return None


def _validation_tokens(plan: Plan) -> float:
    """Fill a batch of the validation pass with as many rows as there are."""
    if plan.profile is None:
        return VALIDATION_TOKENS
    rows = split_sizes(plan).validation
    return min(VALIDATION_TOKENS, rows * row_tokens(plan).mid)


STATE_BYTES: dict[OptimizerName, float] = {"adamw": 8.0, "adamw_8bit": 2.0, "paged_adamw_8bit": 2.0, "lion": 4.0}
"""For each trained weight; Adafactor's depend on the form of each matrix."""


def _optimizer(plan: Plan, shape: ModelShape) -> OptimizerKind:
    """Say what the optimizer holds; this trainer's kernels are fused, with no temporary of all that is trained."""
    kind = plan.optimizer.kind
    narrow = plan.method.lora_rank if isinstance(plan.method, LowRank) else shape.hidden_size
    return OptimizerKind(
        state_bytes=STATE_BYTES.get(kind, 4.0 * (1 / narrow + 1 / shape.hidden_size)),
        foreach=False,
        paged=kind == "paged_adamw_8bit",
    )


def _storage(plan: Plan) -> Storage:
    half = plan.precision.base_dtype != "float32"
    match plan.method:
        case Full(masters=masters):
            return "float32" if masters == "float32" else "bfloat16"
        case Qlora(quantization="nf4", double_quantization=True):
            return "nf4-dq"
        case Qlora(quantization=values):
            return values
        case _:
            return "bfloat16" if half else "float32"


def adapted_layers(method: LowRank) -> frozenset[Target]:
    """Say which layers get adapters."""
    named = None if method.target_modules == "all-linear" else read_targets(" ".join(method.target_modules))
    return named or ALL_LINEAR


def _training(plan: Plan, shape: ModelShape) -> Training:
    """Describe what is trained; adapters are float32 whatever the model's own weights are."""
    match plan.method:
        case Full(masters=masters):
            width = 4 if masters == "float32" else 2
            return FullTraining(parameter_bytes=width, master_bytes=2 if masters == "split" else 0)
        case LowRank(lora_rank=rank, use_dora=dora, lora_dropout=dropout):
            targets = adapted_layers(plan.method)
            extra = len(plan.method.trained_tokens) * shape.hidden_size
            return Adapters(
                targets=targets,
                num_parameters=count_lora_parameters(shape, rank=rank, targets=targets) + extra,
                parameter_bytes=4,
                copied_bytes=4 if dora else 0,
                output_bytes=DORA_OUTPUT_BYTES if dora else 0,
                weight_touches=DORA_TOUCHES if dora else 0.0,
                rebuilds_experts=shape.num_experts > 1,
                dropout=dropout > 0,
            )
        case Prefix(num_virtual_tokens=length):
            trained = 2 * length * shape.num_layers * shape.num_key_value_heads * shape.head_dim
            return Adapters(targets=frozenset(), num_parameters=trained, parameter_bytes=4, copied_bytes=0)
        case Prompt(num_virtual_tokens=length):
            trained = length * shape.hidden_size
            return Adapters(
                targets=frozenset(), num_parameters=trained, parameter_bytes=4, copied_bytes=0, virtual_tokens=length
            )
        case Ia3():
            scaled = 2 * shape.num_key_value_heads * shape.head_dim
            trained = shape.num_attention_layers * scaled + shape.num_mlp_layers * shape.intermediate_size
            return Adapters(targets=IA3_TARGETS, num_parameters=trained, parameter_bytes=4, copied_bytes=0,
                            output_bytes=4)  # fmt: skip
        case _:
            assert_never(plan.method)
