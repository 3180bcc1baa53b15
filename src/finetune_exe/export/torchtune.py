"""torchtune's YAML, for its recipes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from finetune_exe.domain.plan import LowRank, Plan, Qlora
from finetune_exe.errors import FineTuneError, typed
from finetune_exe.export.configuration_file import TRAIN_ROWS, ConfigurationFile, Key, key, prepare
from finetune_exe.export.run_length import run_length
from finetune_exe.export.source import model_source, warmup_paths
from finetune_exe.export.torchtune_models import TORCHTUNE_MODELS, TorchtuneModel
from finetune_exe.export.trainer_keys import OPTIMIZER_PATHS, optimizer_class, plain_alpha

_TITLE = "torchtune 0.6"
_ATTENTION = {"q_proj": "q_proj", "k_proj": "k_proj", "v_proj": "v_proj", "o_proj": "output_proj"}
_MLP = {"gate_proj", "up_proj", "down_proj"}
_FOLDER = "model"


def _model(plan: Plan) -> TorchtuneModel:
    name = model_source(plan)
    if name not in TORCHTUNE_MODELS:
        raise FineTuneError(
            "O03",
            what=f"{_TITLE} has no function that builds {name}",
            where="--to torchtune",
            why="it trains models that it was written for, each by a function of its own",
            fix=f"one of {', '.join(sorted(TORCHTUNE_MODELS))}; or --to trl, axolotl or llamafactory",
        )
    return TORCHTUNE_MODELS[name]


def _keys(plan: Plan) -> Iterator[Key]:
    model, length = _model(plan), run_length(plan, target="torchtune", processes=plan.parallelism.num_gpus)
    yield key("output_dir", "run")
    yield from _method(plan, model)
    yield key("tokenizer._component_", f"torchtune.models.{model.tokenizer}")
    for name, file in model.tokenizer_files.items():
        yield key(f"tokenizer.{name}", str(PurePosixPath(_FOLDER, file)))
    yield key("tokenizer.max_seq_len", plan.data.max_length, "data.max_length")
    yield key("checkpointer._component_", "torchtune.training.FullModelHFCheckpointer")
    yield key("checkpointer.checkpoint_dir", _FOLDER)
    yield key("checkpointer.checkpoint_files", model.checkpoint_files)
    yield key("checkpointer.output_dir", "run")
    yield key("checkpointer.model_type", model.model_type)
    yield key("resume_from_checkpoint", False)
    yield key("dataset._component_", "torchtune.datasets.chat_dataset")
    yield key("dataset.source", "json")
    yield key("dataset.data_files", TRAIN_ROWS)
    yield key("dataset.split", "train")
    yield key("dataset.conversation_column", "messages")
    yield key("dataset.conversation_style", "openai")
    yield key("dataset.train_on_input", False)
    yield key("dataset.packed", False)
    yield key("shuffle", True)
    yield key("seed", plan.seed, "seed")
    yield key("batch_size", plan.batch.micro_batch_size, "batch.micro_batch_size")
    passes = plan.batch.gradient_accumulation_steps
    yield key("gradient_accumulation_steps", passes, "batch.gradient_accumulation_steps")
    yield key("epochs", length.num_epochs, "schedule.epochs")
    per_epoch = -(-length.num_steps // length.num_epochs)
    yield key("max_steps_per_epoch", per_epoch, "schedule.max_steps", note=f"{length.num_steps} in all, {length.told}")
    name, arguments = optimizer_class(plan, title=_TITLE, target="torchtune")
    yield key("optimizer", {"_component_": name, **arguments}, *OPTIMIZER_PATHS)
    yield from _schedule(plan, length.num_warmup)
    yield key("loss._component_", "torchtune.modules.loss.CEWithChunkedOutputLoss")
    yield key("clip_grad_norm", plan.optimizer.max_grad_norm, "optimizer.max_grad_norm")
    yield from _environment(plan)


def _method(plan: Plan, model: TorchtuneModel) -> Iterator[Key]:
    method, place = plan.method, f"torchtune.models.{model.family}"
    if not isinstance(method, LowRank):
        yield key("model._component_", f"{place}.{model.builder}", "model.reference", "method.kind")
        yield key("optimizer_in_bwd", False)
        return
    yield key("model._component_", f"{place}.lora_{model.builder}", "model.reference", "method.kind")
    targets = method.target_modules
    named = {*_ATTENTION, *_MLP} if isinstance(targets, str) else set(targets)
    exact = named <= {*_ATTENTION, *_MLP} and named & _MLP in (set(), _MLP)
    told = ("method.target_modules",) if exact else ()
    yield key("model.lora_attn_modules", [_ATTENTION[name] for name in _ATTENTION if name in named], *told)
    yield key("model.apply_lora_to_mlp", bool(named & _MLP), *told)
    yield key("model.lora_rank", method.lora_rank, "method.lora_rank")
    yield key("model.lora_alpha", plain_alpha(method), "method.lora_alpha", "method.use_rslora",
              note="times the root of the rank, for rsLoRA" if method.use_rslora else "")  # fmt: skip
    yield key("model.lora_dropout", method.lora_dropout, "method.lora_dropout")
    yield key("model.use_dora", method.use_dora, "method.use_dora")
    if isinstance(method, Qlora):
        yield key("model.quantize_base", True)
    yield key("save_adapter_weights_only", True)


def _schedule(plan: Plan, num_warmup: int) -> Iterator[Key]:
    """Name a function that is called with the optimizer and the number of steps; transformers has one for a line."""
    place = "torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup"
    if plan.schedule.kind == "linear":
        place = "transformers.get_linear_schedule_with_warmup"
    told = ("schedule.kind",) if plan.schedule.kind in ("cosine", "linear") else ()
    yield key("lr_scheduler._component_", place, *told)
    yield key("lr_scheduler.num_warmup_steps", num_warmup, *warmup_paths(plan))


def _environment(plan: Plan) -> Iterator[Key]:
    short = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[plan.precision.base_dtype]
    if short == "fp16":
        raise FineTuneError(
            "O03",
            what=f"{_TITLE} does not train in float16",
            where="precision.base_dtype in the plan",
            why="its recipes scale no loss, and refuse it",
            fix="--set precision.base_dtype=float32, or bfloat16 where the GPU has it",
        )
    yield key("dtype", "fp32" if plan.method.kind == "full" else short, "precision.base_dtype")
    yield key("device", "cuda" if plan.hardware.gpus else "cpu")
    checkpointing = plan.precision.gradient_checkpointing
    yield key("enable_activation_checkpointing", checkpointing, "precision.gradient_checkpointing")
    yield key("enable_activation_offloading", False)
    yield key("compile", False)
    yield key("metric_logger._component_", "torchtune.training.metric_logging.DiskLogger")
    yield key("metric_logger.log_dir", "run/logs")
    yield key("log_every_n_steps", 1)
    yield key("log_peak_memory_stats", False)


def _commands(plan: Plan) -> tuple[str, ...]:
    source, count = model_source(plan), plan.parallelism.num_gpus
    recipe = "full_finetune" if plan.method.kind == "full" else "lora_finetune"
    start = f"{recipe}_single_device" if count == 1 else f"--nproc_per_node {count} {recipe}_distributed"
    revision = ("--revision", plan.model.revision) if plan.model.revision else ()
    return (
        "pip install torchtune==0.6.1 torchao==0.10.0" + (" transformers" if plan.schedule.kind == "linear" else ""),
        prepare("torchtune"),
        typed("hf", "download", source, *revision, "--local-dir", _FOLDER),
        f"tune run {start} --config torchtune.yaml",
    )


TORCHTUNE = ConfigurationFile(
    name="torchtune",
    title=_TITLE,
    file_name="torchtune.yaml",
    methods=("lora", "qlora", "full"),
    keys=_keys,
    commands=_commands,
    by_command=("parallelism.num_gpus",),
    otherwise=(
        "the first step has a learning rate of zero where there is a warm-up",
        "conversations are written by a template of its own for the model, not by the tokenizer's",
        "nothing is measured on held-out rows, and a checkpoint is kept after each epoch: evaluate them yourself",
        "a step that is not full at the end of an epoch is not taken",
        "with LoRA what is trained is in the format of the frozen weights, in which small updates can be lost",
        "a full fine-tune is in float32 throughout, for there is no other format without that loss",
        "the run on several GPUs cuts the model up among them (FSDP)",
    ),
)
