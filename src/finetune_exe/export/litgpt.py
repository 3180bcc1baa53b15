"""LitGPT's YAML."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_exe.domain.plan import LowRank, Plan, Qlora
from finetune_exe.errors import typed
from finetune_exe.export.configuration_file import ConfigurationFile, Key, key, prepare
from finetune_exe.export.run_length import run_length
from finetune_exe.export.source import model_source, warmup_paths
from finetune_exe.export.trainer_keys import OPTIMIZER_PATHS, optimizer_class, plain_alpha

_TITLE = "LitGPT 0.5"
_ALL_BATCHES = 1_000_000
_SWITCHES = {"lora_query": {"q_proj"}, "lora_key": {"k_proj"}, "lora_value": {"v_proj"}, "lora_projection": {"o_proj"},
             "lora_mlp": {"gate_proj", "up_proj", "down_proj"}}  # fmt: skip
"""Its switches, and the layers that each of them turns into adapters."""


def _keys(plan: Plan) -> Iterator[Key]:
    length = run_length(plan, target="litgpt", processes=plan.parallelism.num_gpus)
    yield key("checkpoint_dir", f"checkpoints/{model_source(plan)}", "model.reference")
    yield key("out_dir", "run")
    yield from _precision(plan)
    yield key("devices", plan.parallelism.num_gpus, "parallelism.num_gpus")
    if isinstance(plan.method, LowRank):
        yield from _low_rank(plan.method)
    else:
        yield key("finetune_full", None, "method.kind")
    yield key("data.class_path", "litgpt.data.JSON")
    yield key("data.init_args.json_path", "data")
    yield key("data.init_args.mask_prompt", True)
    yield key(
        "data.init_args.prompt_style.class_path", "litgpt.prompts.Default", note="the rows hold the rendered prompt"
    )
    yield key("data.init_args.seed", plan.seed)
    yield key("train.epochs", length.num_epochs, "schedule.epochs")
    yield key("train.max_steps", length.num_steps, "schedule.max_steps", note=length.told)
    yield key("train.global_batch_size", plan.batch.effective * plan.parallelism.num_gpus,
              "batch.gradient_accumulation_steps")  # fmt: skip
    yield key("train.micro_batch_size", plan.batch.micro_batch_size, "batch.micro_batch_size")
    yield key("train.lr_warmup_steps", max(1, length.num_warmup), *warmup_paths(plan))
    yield key("train.max_seq_length", plan.data.max_length, "data.max_length")
    if plan.schedule.kind == "cosine":
        yield key("lr_schedule", None, "schedule.kind")
    every = length.evaluate_every(plan)
    yield key("train.save_interval", every)
    yield key("eval.interval", every, "checkpoints.evaluations_per_epoch")
    yield key("eval.max_iters", _ALL_BATCHES, note="all of them")
    yield key("eval.initial_validation", True)
    yield key("eval.max_new_tokens", 1)
    name, arguments = optimizer_class(plan, title=_TITLE, target="litgpt")
    yield key("optimizer.class_path", name, *OPTIMIZER_PATHS)
    yield key("optimizer.init_args", arguments)
    yield key("logger_name", "csv")
    yield key("seed", plan.seed, "seed")


def _precision(plan: Plan) -> Iterator[Key]:
    """Keep what is trained in float32 where that is possible, and the frozen weights in the plan's format."""
    short = {"float32": "32", "bfloat16": "bf16", "float16": "16"}[plan.precision.base_dtype]
    kind = "mixed" if plan.method.kind == "full" and short != "32" else "true"
    yield key("precision", f"{short}-{kind}", "precision.base_dtype")
    if isinstance(plan.method, Qlora):
        double = plan.method.double_quantization
        yield key("quantize", "bnb.nf4-dq" if double else "bnb.nf4", "method.double_quantization")


def _low_rank(method: LowRank) -> Iterator[Key]:
    yield key("lora_r", method.lora_rank, "method.kind", "method.lora_rank")
    alpha = plain_alpha(method)
    if alpha == int(alpha):
        yield key("lora_alpha", int(alpha), "method.lora_alpha", "method.use_rslora",
                  note="times the root of the rank, for rsLoRA" if method.use_rslora else "")  # fmt: skip
    yield key("lora_dropout", method.lora_dropout, "method.lora_dropout")
    targets = method.target_modules
    named = set().union(*_SWITCHES.values()) if isinstance(targets, str) else set(targets)
    switched = {switch: layers for switch, layers in _SWITCHES.items() if layers & named}
    exact = named == set().union(*switched.values())
    for switch in _SWITCHES:
        yield key(switch, switch in switched, *(("method.target_modules",) if exact else ()))
    yield key("lora_head", False)


def _commands(plan: Plan) -> tuple[str, ...]:
    source = model_source(plan)
    return (
        'pip install "litgpt[extra]==0.5.13"',
        prepare("litgpt"),
        typed("litgpt", "download", source),
        f"litgpt {'finetune_full' if plan.method.kind == 'full' else 'finetune_lora'} --config litgpt.yaml",
    )


LITGPT = ConfigurationFile(
    name="litgpt",
    title=_TITLE,
    file_name="litgpt.yaml",
    methods=("lora", "qlora", "full"),
    keys=_keys,
    commands=_commands,
    rows_are_rendered=True,
    otherwise=(
        "the first step has a learning rate of zero, and there is a warm-up of one step at least",
        "each answer of a conversation is a row of its own, behind the turns before it",
        "an end-of-text token is learned behind each answer, also where the template ends turns with another",
        "passes of a step weigh alike, however many learned tokens they have; so do batches of the validation loss",
        "with LoRA what is trained is in the format of the frozen weights, in which small updates can be lost",
        "the run on several GPUs cuts the model up among them (FSDP)",
        "of a model that it puts no begin-of-text token before, it takes the template's away",
        "the newest revision of the model is fetched; `litgpt download` says which models it knows",
    ),
)
