"""Python source out of a plan: literals, assignments, calls and whole scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePath

from finetune_exe.domain.plan import Full, Ia3, Plan, Prefix, Prompt, Qlora, WarmupFraction
from finetune_exe.export.left_out import left_out
from finetune_exe.knowledge.trainer_names import TRAINER_OPTIMIZERS, TRAINER_SCHEDULES
from finetune_exe.text.first_words import FIRST_WORDS
from finetune_exe.text.render import PLAIN_TEMPLATE

_EMBEDDED_ON_THE_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A name and the value a script gives it, with the paths of the plan it stands for."""

    name: str
    code: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """An object that describes something to PEFT or transformers: its class, and what it is made with."""

    type: str
    settings: tuple[Setting, ...]


def setting(name: str, value: object, *paths: str) -> Setting:
    """Make a setting of a value that Python writes as it reads it."""
    return Setting(name=name, code=literal(value), paths=paths)


def looking_and_keeping(plan: Plan) -> tuple[Setting, ...]:
    """Have transformers' Trainer measure as it saves, keep the best checkpoint, and log every step to nobody else."""
    return (
        setting("eval_strategy", "steps"),
        setting("save_strategy", "steps"),
        setting("save_total_limit", plan.checkpoints.keep_last + 1, "checkpoints.keep_last"),
        setting("load_best_model_at_end", True),
        setting("metric_for_best_model", "eval_loss"),
        setting("greater_is_better", False),
        setting("logging_steps", 1),
        setting("report_to", "none"),
    )


def literal(value: object) -> str:
    """Write a value as Python source, with double quotes where they need no escape."""
    match value:
        case str():
            quoted = repr(value)
            return f'"{quoted[1:-1]}"' if '"' not in quoted and "\\'" not in quoted else quoted
        case dict():
            return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(literal, value)) + "]"
        case _:
            return repr(value)


def adapter(plan: Plan) -> Configuration | None:
    """Give PEFT's configuration of the plan's adapter; None for full fine-tuning."""
    method = plan.method
    if isinstance(method, Full):
        return None
    task = setting("task_type", "CAUSAL_LM")
    if isinstance(method, Ia3):
        return Configuration(type="IA3Config", settings=(task,))
    if isinstance(method, Prefix | Prompt):
        length = setting("num_virtual_tokens", method.num_virtual_tokens, "method.num_virtual_tokens")
        kind = "PrefixTuningConfig" if isinstance(method, Prefix) else "PromptTuningConfig"
        return Configuration(type=kind, settings=(length, task))
    targets = method.target_modules
    return Configuration(
        type="LoraConfig",
        settings=(
            setting("r", method.lora_rank, "method.lora_rank"),
            setting("lora_alpha", method.lora_alpha, "method.lora_alpha"),
            setting("lora_dropout", method.lora_dropout, "method.lora_dropout"),
            setting("target_modules", targets if isinstance(targets, str) else list(targets), "method.target_modules"),
            setting("use_rslora", method.use_rslora, "method.use_rslora"),
            setting("use_dora", method.use_dora, "method.use_dora"),
            task,
        ),
    )


def quantization(plan: Plan) -> Configuration | None:
    """Give transformers' description of how QLoRA keeps the frozen weights; None for the other methods."""
    if not isinstance(plan.method, Qlora):
        return None
    double = plan.method.double_quantization
    return Configuration(
        type="BitsAndBytesConfig",
        settings=(
            setting("load_in_4bit", True),
            setting("bnb_4bit_quant_type", "nf4"),
            setting("bnb_4bit_use_double_quant", double, "method.double_quantization"),
            setting("bnb_4bit_compute_dtype", plan.precision.base_dtype, "precision.base_dtype"),
        ),
    )


def method_constants(plan: Plan) -> tuple[Setting, ...]:
    """Name the adapter, how the frozen weights are kept, and with which words learned positions begin."""
    return (
        _constant("ADAPTER", adapter(plan), "method.kind"),
        _constant("QUANTIZATION", quantization(plan), "method.kind"),
        setting("FIRST_WORDS", FIRST_WORDS if isinstance(plan.method, Prefix | Prompt) else None),
    )


def _constant(name: str, value: Configuration | None, *paths: str) -> Setting:
    if value is None:
        return Setting(name=name, code="None", paths=paths)
    parts = tuple(path for part in value.settings for path in part.paths)
    return Setting(name=name, code=call(value.type, value.settings).rstrip(), paths=(*paths, *parts))


def warmup_paths(plan: Plan) -> tuple[str, ...]:
    """Give the paths of the warm-up, whichever of its two forms the plan has."""
    return (
        "schedule.warmup.kind",
        f"schedule.warmup.{'fraction' if plan.schedule.warmup.kind == 'fraction' else 'steps'}",
    )


def trainer_settings(plan: Plan) -> tuple[Setting, ...]:
    """Give the arguments of transformers' Trainer that need no data to be known, its length aside.

    Zero means no clipping there, and a warm-up below one is a share of all steps. How long a pair is it cannot know.
    """
    optimizer, batch, precision, warmup = plan.optimizer, plan.batch, plan.precision, plan.schedule.warmup
    warmup_steps = warmup.fraction if isinstance(warmup, WarmupFraction) else warmup.steps
    by_length = batch.group_by_length and plan.objective.kind == "sft"
    known = () if batch.group_by_length and not by_length else ("batch.group_by_length",)
    return (
        setting("optim", TRAINER_OPTIMIZERS[optimizer.kind], "optimizer.kind"),
        setting("learning_rate", optimizer.learning_rate, "optimizer.learning_rate"),
        setting("weight_decay", optimizer.weight_decay, "optimizer.weight_decay"),
        setting("adam_beta1", optimizer.beta1, "optimizer.beta1"),
        setting("adam_beta2", optimizer.beta2, "optimizer.beta2"),
        setting("max_grad_norm", optimizer.max_grad_norm or 0.0, "optimizer.max_grad_norm"),
        setting("lr_scheduler_type", TRAINER_SCHEDULES.get(plan.schedule.kind, plan.schedule.kind), "schedule.kind"),
        setting("warmup_steps", warmup_steps, *warmup_paths(plan)),
        setting("per_device_train_batch_size", batch.micro_batch_size, "batch.micro_batch_size"),
        setting("gradient_accumulation_steps", batch.gradient_accumulation_steps, "batch.gradient_accumulation_steps"),
        setting("train_sampling_strategy", "group_by_length" if by_length else "random", *known),
        setting("bf16", precision.base_dtype == "bfloat16", "precision.base_dtype"),
        *([setting("fp16", True)] if precision.base_dtype == "float16" else []),
        setting("gradient_checkpointing", precision.gradient_checkpointing, "precision.gradient_checkpointing"),
        setting("seed", plan.seed, "seed"),
    )


def length_constants(plan: Plan) -> tuple[Setting, ...]:
    """Name what decides how long a run is and when it is measured."""
    schedule, checkpoints = plan.schedule, plan.checkpoints
    return (
        setting("EPOCHS", schedule.epochs, "schedule.epochs"),
        setting("MAX_STEPS", schedule.max_steps, "schedule.max_steps"),
        setting("DECAY_FRACTION", schedule.decay_fraction, "schedule.decay_fraction"),
        setting("EVALUATIONS_PER_EPOCH", checkpoints.evaluations_per_epoch, "checkpoints.evaluations_per_epoch"),
        setting("PATIENCE", checkpoints.early_stopping_patience, "checkpoints.early_stopping_patience"),
    )


def model_source(plan: Plan) -> str:
    """Give the hub id or the folder that the base model comes from."""
    reference = plan.model.reference
    if reference == "embedded":
        return _EMBEDDED_ON_THE_HUB
    return str(PurePath(reference).parent) if reference.endswith(".gguf") else reference


def template_text(plan: Plan) -> str | None:
    """Give the chat template where the plan overrides the tokenizer's; one in a file by its path."""
    template = plan.data.chat_template
    return PLAIN_TEMPLATE if template == "plain" else template


def model_settings(plan: Plan) -> tuple[Setting, ...]:
    """Say where the base model and its chat template come from, as the scripts name them."""
    reference = plan.model.reference
    gguf = reference.endswith(".gguf")
    template = plan.data.chat_template
    if template is None or template == "plain":
        code = literal(PLAIN_TEMPLATE if template else None)
    else:
        code = f'Path({literal(template)}).read_text(encoding="utf-8")'
    return (
        setting("MODEL", model_source(plan), "model.reference"),
        setting("REVISION", plan.model.revision),
        setting("GGUF", {"gguf_file": PurePath(reference).name} if gguf else {}),
        Setting(name="CHAT_TEMPLATE", code=code, paths=("data.chat_template",)),
        setting("MAX_LENGTH", plan.data.max_length, "data.max_length"),
    )


def assignments(settings: Sequence[Setting]) -> str:
    """Write settings as one assignment a line."""
    return "".join(f"{item.name} = {item.code}\n" for item in settings)


def entries(settings: Sequence[Setting]) -> str:
    """Write settings as a dictionary, one entry a line."""
    return "{\n" + "".join(f"    {literal(item.name)}: {item.code},\n" for item in settings) + "}"


def call(target: str, settings: Sequence[Setting]) -> str:
    """Write settings as the keyword arguments of a call, one a line."""
    return f"{target}(\n" + "".join(f"    {item.name}={item.code},\n" for item in settings) + ")\n"


def script(header: str, plan: Plan, settings: Sequence[Setting], *, constants: str, parts: Sequence[str]) -> str:
    """Put a script together.

    Args:
        header: Docstring and imports; bitsandbytes is named in it where the plan needs it.
        plan: Its task is named, and whatever of it `settings` do not express.
        settings: Everything the script expresses.
        constants: The same as Python text.
        parts: Names of the parts below `scripts/` that follow.
    """
    if plan.method.kind == "qlora" or plan.optimizer.kind in ("adamw_8bit", "paged_adamw_8bit", "lion"):
        header = header.replace('"peft>=0.21"', '"peft>=0.21" "bitsandbytes>=0.50.2"')
    expressed = {path for item in settings for path in item.paths}
    opening = f"{header}# Task: {literal(plan.task.description)}\n{constants}{left_out(plan, expressed)}"
    return "\n\n".join([opening, *map(_script_part, parts)])


def _script_part(name: str) -> str:
    return files("finetune_exe.export").joinpath("scripts", f"{name}.py.txt").read_text(encoding="utf-8")
