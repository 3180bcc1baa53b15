"""MLX-LM's YAML, for Apple silicon."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_exe.domain.plan import LowRank, Plan
from finetune_exe.domain.yaml_tree import Json
from finetune_exe.errors import typed
from finetune_exe.export.configuration_file import ConfigurationFile, Key, key, prepare
from finetune_exe.export.run_length import RunLength, run_length, validation_rows
from finetune_exe.export.source import model_source, warmup_paths
from finetune_exe.export.trainer_keys import plain_alpha, unknown_optimizer

_GROUPS = {"q_proj": "self_attn", "k_proj": "self_attn", "v_proj": "self_attn", "o_proj": "self_attn",
           "gate_proj": "mlp", "up_proj": "mlp", "down_proj": "mlp"}  # fmt: skip
"""Where a block keeps its layers."""


def _keys(plan: Plan) -> Iterator[Key]:
    length = run_length(plan, target="mlx", processes=1)
    size = _rows_of_a_pass(plan)
    passes = plan.batch.effective // size
    yield key("model", "model", note="written by mlx_lm.convert above")
    yield key("train", True)
    yield key("data", "data")
    yield from _method(plan)
    yield key("mask_prompt", True)
    yield key("max_seq_length", plan.data.max_length, "data.max_length")
    yield key("batch_size", size, "batch.micro_batch_size",
              note="" if size == plan.batch.micro_batch_size else "the validation rows must fill one")  # fmt: skip
    yield key("grad_accumulation_steps", passes, "batch.gradient_accumulation_steps")
    if plan.batch.group_by_length:
        yield key("group_by_length", None, "batch.group_by_length")
    yield key("iters", length.num_steps * passes, "schedule.epochs", "schedule.max_steps",
              note=f"{length.num_steps} steps, {length.told}")  # fmt: skip
    yield from _optimizer(plan)
    yield from _schedule(plan, length)
    yield key("grad_checkpoint", plan.precision.gradient_checkpointing, "precision.gradient_checkpointing")
    every = length.evaluate_every(plan) * passes
    yield key("steps_per_eval", every, "checkpoints.evaluations_per_epoch")
    yield key("val_batches", -1, note="all of them")
    yield key("save_every", every)
    yield key("steps_per_report", passes)
    yield key("adapter_path", "run")
    yield key("seed", plan.seed, "seed")


def _rows_of_a_pass(plan: Plan) -> int:
    """Give the rows of a pass: no more than there are validation rows, with which it would refuse to begin."""
    most = min(plan.batch.micro_batch_size, validation_rows(plan) or plan.batch.micro_batch_size)
    return max(size for size in range(1, most + 1) if plan.batch.effective % size == 0)


def _method(plan: Plan) -> Iterator[Key]:
    method = plan.method
    yield key("num_layers", -1, note="all of them")
    if not isinstance(method, LowRank):
        yield key("fine_tune_type", "full", "method.kind")
        return
    dora = method.use_dora
    yield key("fine_tune_type", "dora" if dora else "lora", "method.kind", "method.use_dora")
    yield key("lora_parameters.rank", method.lora_rank, "method.lora_rank")
    yield key("lora_parameters.scale", plain_alpha(method) / method.lora_rank, "method.lora_alpha", "method.use_rslora",
              note="its name for lora_alpha / lora_rank")  # fmt: skip
    yield key("lora_parameters.dropout", method.lora_dropout, "method.lora_dropout")
    targets = method.target_modules
    if isinstance(targets, str):
        yield key("lora_parameters.keys", None, "method.target_modules")
    else:
        names = [f"{_GROUPS[name]}.{name}" if name in _GROUPS else name for name in targets]
        yield key("lora_parameters.keys", list[Json](names), "method.target_modules")


def _optimizer(plan: Plan) -> Iterator[Key]:
    """Name the optimizer with all its numbers: its AdamW has another weight decay, and corrects no bias, by itself."""
    optimizer = plan.optimizer
    yield key("learning_rate", optimizer.learning_rate, "optimizer.learning_rate")
    if optimizer.kind != "adamw":
        raise unknown_optimizer(plan, "MLX-LM 0.32", target="mlx")
    yield key("optimizer", "adamw", "optimizer.kind")
    yield key("optimizer_config.adamw.betas", [optimizer.beta1, optimizer.beta2], "optimizer.beta1", "optimizer.beta2")
    yield key("optimizer_config.adamw.weight_decay", optimizer.weight_decay, "optimizer.weight_decay")
    yield key("optimizer_config.adamw.bias_correction", True)


def _schedule(plan: Plan, length: RunLength) -> Iterator[Key]:
    peak, falling = plan.optimizer.learning_rate, max(1, length.num_steps - length.num_warmup)
    shapes: dict[str, tuple[str, list[Json]]] = {
        "cosine": ("cosine_decay", [peak, falling, 0.0]),
        "linear": ("linear_schedule", [peak, 0.0, falling]),
        "constant": ("exponential_decay", [peak, 1.0]),
    }
    if plan.schedule.kind not in shapes:
        return
    name, arguments = shapes[plan.schedule.kind]
    yield key("lr_schedule.name", name, "schedule.kind")
    yield key("lr_schedule.arguments", arguments)
    yield key("lr_schedule.warmup", length.num_warmup, *warmup_paths(plan), note="steps")


def _commands(plan: Plan) -> tuple[str, ...]:
    source, revision = model_source(plan), plan.model.revision
    four_bit = ("--quantize", "--q-bits", "4") if plan.method.kind == "qlora" else ()
    fetched = (typed("hf", "download", source, "--revision", revision, "--local-dir", "base"),) if revision else ()
    return (
        'pip install "mlx-lm[train]==0.32.2"',
        prepare("mlx"),
        *fetched,
        typed(
            "mlx_lm.convert",
            "--hf-path",
            "base" if revision else source,
            "--mlx-path",
            "model",
            "--dtype",
            plan.precision.base_dtype,
            *four_bit,
        ),
        "mlx_lm.lora --config mlx.yaml",
    )


MLX = ConfigurationFile(
    name="mlx",
    title="MLX-LM 0.32",
    file_name="mlx.yaml",
    methods=("lora", "qlora", "full"),
    keys=_keys,
    commands=_commands,
    by_command=("model.reference", "precision.base_dtype"),
    otherwise=(
        "the first step has a learning rate of zero where there is a warm-up",
        "each answer of a conversation is a row of its own, behind the turns before it",
        "what the template puts behind the end of a turn is learned too, and one token of padding",
        "passes of a step weigh alike, however many learned tokens they have",
        "batches hold rows of like length; rows that fill no batch are not seen",
        "4 bit means affine groups of 64 weights, not NormalFloat",
        "a full fine-tune trains the blocks alone, in the format they are loaded in",
    ),
)
