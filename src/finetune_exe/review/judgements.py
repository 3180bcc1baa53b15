"""Numbers that are possible and unwise."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from finetune_exe.domain.review import ConfigurationFinding
from finetune_exe.domain.setting_line import written
from finetune_exe.domain.yaml_tree import Item
from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.models import find_model
from finetune_exe.review.configuration import Configuration
from finetune_exe.review.findings import finding
from finetune_exe.review.meaning import Said, given_value, is_adapted, meant

_HIGHEST = {"adapter": 2e-3, "full": 3e-4}
_LOWEST = {"adapter": 1e-5, "full": 1e-7}
_RATE_SOURCE = (
    "the rules of this program: best LoRA rates 1e-4 to 5e-4, full training a tenth, each within a factor of ten"
)
_MANY_EPOCHS = 10
_Found = Iterator[ConfigurationFinding]


def check_judgements(configuration: Configuration) -> _Found:
    """Judge numbers and names."""
    for judge in _JUDGES:
        yield from judge(configuration)


def _number(given: Said | Item | None) -> int | float | None:
    """Give the number that a setting holds; None where it holds none."""
    value = given.scalar if given is not None else None
    return None if isinstance(value, bool | str | None) else value


def _learning_rate(configuration: Configuration) -> _Found:
    said = meant(configuration, "optimizer.learning_rate")
    rate = _number(said)
    if said is None or rate is None or _is_not_sft(configuration):
        return
    form = "adapter" if is_adapted(configuration) else "full"
    if rate <= 0:
        yield finding(
            "learning_rate", "error", key=said.key, place=said.place, what=f"the learning rate is {rate:g}",
            why="nothing is learned", fix=f"write {written(configuration.form, said.key, _usual(form))}",
            source=_RATE_SOURCE,
        )  # fmt: skip
    elif rate > _HIGHEST[form] or (rate < _LOWEST[form] and not _learns_from_pairs(configuration)):
        high = rate > _HIGHEST[form]
        yield finding(
            "learning_rate", "error" if rate >= 0.1 else "warning", key=said.key, place=said.place,
            what=f"the learning rate {rate:g} is {_beyond(form, high=high)}",
            why="the loss will leap or end in NaN" if high else "the weights hardly move",
            fix=f"write {written(configuration.form, said.key, _usual(form))}", source=_RATE_SOURCE,
        )  # fmt: skip


def _beyond(form: str, *, high: bool) -> str:
    learner = "adapters" if form == "adapter" else "full training"
    return f"above what is known to hold for {learner}" if high else f"below what {learner} learn by"


def _usual(form: str) -> float:
    return 0.0002 if form == "adapter" else 0.00001


def _is_not_sft(configuration: Configuration) -> bool:
    """Say whether the run is of a kind whose learning rates are others."""
    texts = (configuration.value(name) for name in ("stage", "rl", "rlhf_type", "finetuning_type", "use_badam"))
    optimizer = configuration.value("optimizer") or configuration.value("optim") or configuration.value("use_muon")
    return (
        any(text in ("ppo", "rm", "pt", "grpo", "gkd", "ebft", "gdpo") for text in texts)
        or bool({"GRPOConfig", "RLOOConfig", "RewardConfig"} & configuration.called)
        or bool(
            re.search(
                r"prodigy|dadapt|muon|adafactor|sgd|lion|schedule_free|galore|True|polora|came|adopt|q_", str(optimizer)
            )
        )
        or "num_generations" in configuration.settings
        or "pretraining_dataset" in configuration.settings
    )


def _learns_from_pairs(configuration: Configuration) -> bool:
    """Say whether pairs are learned from, which wants lower rates."""
    texts = [configuration.value(name) for name in ("stage", "rl", "rlhf_type")]
    return any(text in ("dpo", "kto", "orpo", "ipo", "simpo", "cpo") for text in texts) or bool(
        {"beta", "pref_beta", "args.beta"} & configuration.settings.keys()
    )


def _epochs(configuration: Configuration) -> _Found:
    said = meant(configuration, "schedule.epochs")
    epochs, steps = _number(said), _number(meant(configuration, "schedule.max_steps"))
    if said is None or epochs is None or epochs < _MANY_EPOCHS or (steps is not None and steps > 0):
        return
    yield finding(
        "epochs", "note", key=said.key, place=said.place, what=f"{epochs:g} passes over the same rows",
        why="after a few, a model learns rows by heart",
        fix=f"write {written(configuration.form, said.key, 3)}, and keep the best checkpoint",
        source="huggingface/transformers#22934, unslothai/unsloth#970",
    )  # fmt: skip


def _warmup(configuration: Configuration) -> _Found:
    for name in ("warmup_ratio", "warmup_steps"):
        said = given_value(configuration, name)
        share = _number(said)
        if said is None or share is None:
            continue
        if share < 0 or (name == "warmup_ratio" and share > 1):
            yield finding(
                "warmup", "error", key=said.key, place=said.place, what=f"a warm-up of {share:g} of all steps",
                why="it is a share, from 0 to 1: the trainer stops",
                fix=f"write {written(configuration.form, said.key, 0.03)}", source="transformers TrainingArguments",
            )  # fmt: skip
        elif 0.3 <= share < 1:
            yield finding(
                "warmup", "warning", key=said.key, place=said.place,
                what=f"the learning rate rises for {100 * share:.0f} % of all steps",
                why="much of the run is spent at a rate that is too low",
                fix=f"write {written(configuration.form, said.key, 0.03)}",
                source="the presets of this program: 1 to 10 %",
            )  # fmt: skip


def _warmup_longer_than_run(configuration: Configuration) -> _Found:
    warm = given_value(configuration, "warmup_steps")
    rising, most = _number(warm), _number(meant(configuration, "schedule.max_steps"))
    if warm is not None and rising is not None and most is not None and 0 < most <= rising:
        yield finding(
            "warmup", "error", key=warm.key, place=warm.place,
            what=f"{rising:g} steps of warm-up, and the run has {most:g} steps",
            why="the full learning rate is never reached",
            fix=f"write {written(configuration.form, 'warmup_steps', max(1, int(most * 0.03)))}", source="arithmetic",
        )  # fmt: skip


def _scale(configuration: Configuration) -> _Found:
    said, scale = meant(configuration, "method.lora_rank"), meant(configuration, "method.lora_alpha")
    rank, alpha = _number(said), _number(scale)
    if said is None or not isinstance(rank, int):
        return
    if rank < 1:
        yield finding(
            "adapter", "error", key=said.key, place=said.place, what=f"the rank of the adapters is {rank}",
            why="an adapter needs a rank of 1 at least", fix=f"write {written(configuration.form, said.key, 16)}",
            source="PEFT LoraConfig",
        )  # fmt: skip
    elif scale is not None and alpha is not None:
        stabilised = (
            configuration.value("use_rslora")
            or configuration.value("peft_use_rslora")
            or configuration.value("lora.use_rslora")
        )
        if not stabilised and not 0.24 < alpha / rank <= 8:
            yield finding(
                "adapter", "note", key=scale.key, place=scale.place,
                what=f"the adapters are scaled by {alpha / rank:g}",
                why="the learning rates that others publish are for a scale of 1 or 2",
                fix=f"write {written(configuration.form, scale.key, 2 * rank)}, or another learning rate",
                source="PEFT LoraConfig: lora_alpha / r",
            )  # fmt: skip


def _length(configuration: Configuration) -> _Found:
    said, model = meant(configuration, "data.max_length"), meant(configuration, "model.reference")
    length = _number(said)
    if said is None or not isinstance(length, int):
        return
    scaled = any(re.search(r"rope|yarn|overrides_of_model_config|shift_attn", name) for name in configuration.settings)
    if model is not None and isinstance(model.scalar, str) and not scaled:
        try:
            context = find_model(model.scalar).context_length
        except FineTuneError:
            context = None
        if context is not None and length > context:
            yield finding(
                "length", "warning", key=said.key, place=said.place,
                what=f"rows of {length:,} tokens; {model.scalar} was made for {context:,}",
                why="positions beyond were never trained",
                fix=f"write {written(configuration.form, said.key, context)}",
                source="the model's max_position_embeddings",
            )  # fmt: skip


def _evaluation_memory(configuration: Configuration) -> _Found:
    trained = _number(meant(configuration, "batch.micro_batch_size"))
    for name in ("per_device_eval_batch_size", "eval_batch_size"):
        said = given_value(configuration, name)
        rows = _number(said)
        if said is not None and isinstance(rows, int) and isinstance(trained, int) and rows > 2 * trained:
            yield finding(
                "memory", "note", key=said.key, place=said.place,
                what=f"evaluations take {rows} rows at a time, training {trained}",
                why="memory may run out at the first evaluation, hours into the run",
                fix=f"write {written(configuration.form, said.key, trained)}",
                source="axolotl-ai-cloud/axolotl#1813, unslothai/unsloth#4069",
            )  # fmt: skip


def _half_precision(configuration: Configuration) -> _Found:
    model = meant(configuration, "model.reference")
    for name in ("fp16", "float16"):
        said = given_value(configuration, name)
        if said is None or said.scalar is not True or model is None or not isinstance(model.scalar, str):
            continue
        better = said.key.replace("fp16", "bf16").replace("float16", "bfloat16")
        if re.search(r"gemma|qwen-?[23]|llama-?3|phi-?[34]", model.scalar.lower()):
            yield finding(
                "precision", "warning", key=said.key, place=said.place,
                what=f"float16 with {model.scalar}, which was made in bfloat16",
                why="its activations can exceed what float16 holds, and the loss becomes NaN",
                fix=f"write {written(configuration.form, better, True)} where the GPU has it (Ampere and later)",
                source="unslothai/unsloth, huggingface/transformers: Gemma in float16",
            )  # fmt: skip


def _saving_beside_evaluating(configuration: Configuration) -> _Found:
    best, strategy = (given_value(configuration, name) for name in ("load_best_model_at_end", "save_strategy"))
    save = given_value(configuration, "save_steps")
    every, looks = _number(save), _number(given_value(configuration, "eval_steps"))
    if save is None or not isinstance(every, int) or not isinstance(looks, int) or looks <= 0:
        return
    patience = bool(configuration.value("early_stopping_patience")) and configuration.peer.name == "axolotl"
    steps = strategy is None or strategy.scalar in (None, "steps")
    if ((best is not None and best.scalar is True) or patience) and steps and every % looks:
        yield finding(
            "contradiction", "error", key=save.key, place=save.place,
            what=f"checkpoints every {every} steps, evaluations every {looks}, and the best is to be kept",
            why="the trainer stops: save_steps must be a multiple of eval_steps",
            fix=f"write {written(configuration.form, 'save_steps', looks * max(1, round(every / looks)))}",
            source="transformers TrainingArguments.__post_init__",
        )  # fmt: skip


_JUDGES: tuple[Callable[[Configuration], _Found], ...] = (
    _learning_rate, _epochs, _warmup, _warmup_longer_than_run, _scale, _length,
    _evaluation_memory, _half_precision, _saving_beside_evaluating,
)  # fmt: skip
