"""Carry a configuration over into settings of our plan, and name what stays behind."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from finetune_exe.domain.plan import METHOD_TYPES
from finetune_exe.domain.values import Scalar
from finetune_exe.domain.yaml_tree import Json
from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.models import find_model
from finetune_exe.review.carried import Carried, Left, Setting
from finetune_exe.review.carry_data import carry_data, carry_objective, carry_template
from finetune_exe.review.configuration import Configuration
from finetune_exe.review.meaning import built_model, given_value, is_adapted, meant, quantised_bits, stands_for
from finetune_exe.review.own_script import own_settings
from finetune_exe.review.translations import (
    CARRIED,
    OPTIMIZERS,
    OTHER_TRAINERS,
    PLAIN_ARGUMENTS,
    REFUSED,
    SCHEDULES,
    SPECIAL,
    SURROUNDINGS,
    WHOLE,
)


def carry(configuration: Configuration) -> Carried:
    """Carry over what has a setting in our plan, the program's defaults included.

    Raises:
        FineTuneError: C17 where it names no model, or trains in a way that this program does not.
    """
    _refuse_other_training(configuration)
    found: dict[str, Setting] = {}
    left: list[Left] = []
    for setting in (*_special(configuration, left), *_plain(configuration, left)):
        found.setdefault(setting.path, setting)
    found |= {setting.path: setting for setting in own_settings(configuration)}
    fields = METHOD_TYPES[str(found["method.kind"].value)].model_fields  # type: ignore[index]
    found = {
        path: one for path, one in found.items() if not path.startswith("method.") or path.partition(".")[2] in fields
    }
    used = {setting.key for setting in found.values()} | {entry.key for entry in left}
    left += _unused(configuration, used)
    settings = tuple(one._replace(line=_line(configuration, one.line)) for one in found.values())
    behind = (entry._replace(line=_line(configuration, entry.line) or 1) for entry in left)
    return Carried(settings=settings, left=tuple(sorted(behind, key=lambda entry: entry.line)))


def _line(configuration: Configuration, line: int | None) -> int | None:
    """Give the line in the file, which for a notebook is another than in its code."""
    return line if line is None or not configuration.lines else configuration.lines[line - 1].line


def _refuse_other_training(configuration: Configuration) -> None:
    if configuration.peer.name not in CARRIED:
        raise FineTuneError(
            "C17",
            what=f"a configuration of {configuration.peer.title} is reviewed, but not carried over",
            where=configuration.path,
            why="too much of what it says has no like in a plan",
            fix="make a plan of the task: fine-tune analyze TASK --model MODEL --data ROWS",
        )
    other = sorted(configuration.called & OTHER_TRAINERS)
    if other or "num_generations" in configuration.settings:
        raise _other_training(f"{' and '.join(other) or 'num_generations'} stands for", configuration.path)
    for key, kinds in REFUSED.items():
        item = configuration.settings.get(key)
        if item is not None and item.scalar in kinds:
            where = f"{configuration.path}:{item.place.line}:{item.place.column}"
            raise _other_training(f"{key} {item.scalar} is", where)


def _other_training(what: str, where: str) -> FineTuneError:
    return FineTuneError(
        "C17",
        what=f"{what} a training that this program does not do",
        where=where,
        why="it learns answers as they stand (sft), or from pairs (dpo); a plan would train something else",
        fix="train it where it is; fine-tune review looks at the file all the same",
    )


def _plain(configuration: Configuration, left: list[Left]) -> Iterator[Setting]:
    """Carry over what only has another name."""
    for path, meaning in configuration.peer.meaning.items():
        if path in SPECIAL or (path == "model.reference" and configuration.peer.name == "torchtune"):
            continue
        said = meant(configuration, path)
        value: Json = meaning.default if said is None else said.scalar
        if said is not None and said.item.computed:
            left.append(Left(said.key, said.line, "it is computed when the script runs"))
            said, value = None, meaning.default
        number = _number(path, value)
        if number is not None:
            yield Setting(path, number, stands_for(configuration, path), said.line if said is not None else None)


def _number(path: str, value: Json) -> Json:
    """Give a value the type that our plan wants; None where there is nothing to carry over."""
    if isinstance(value, str) and path not in ("model.reference", "model.revision"):
        try:
            value = float(value)
        except ValueError:
            return None
        if not math.isfinite(value):
            return None
    if path in WHOLE:
        whole = isinstance(value, int | float) and not isinstance(value, bool) and value == int(value) and value >= 0
        return int(value) if whole else None  # type: ignore[arg-type]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _special(configuration: Configuration, left: list[Left]) -> Iterator[Setting]:
    """Carry over what is said in another way."""
    yield from _method(configuration)
    yield from _folder_model(configuration, left)
    yield from _named(configuration, "optimizer.kind", OPTIMIZERS, left)
    yield from _named(configuration, "schedule.kind", SCHEDULES, left)
    yield from _precision(configuration)
    yield from _tf32(configuration)
    yield from _warmup(configuration)
    yield from _steps_and_norm(configuration)
    yield from _evaluations(configuration, left)
    yield from _checkpoints(configuration)
    yield from _sampling(configuration)
    yield from _checkpointing(configuration)
    yield from _targets(configuration)
    yield from _scale(configuration)
    yield from carry_data(configuration, left)
    yield from carry_template(configuration, left)
    yield from carry_objective(configuration)


def _method(configuration: Configuration) -> Iterator[Setting]:
    keys = ("adapter", "finetuning_type", "tuner_type", "use_peft", "lora", "model._component_")
    key, line = next(
        ((key, configuration.settings[key].key_place.line) for key in keys if key in configuration.settings), ("", None)
    )
    kind = "full" if not is_adapted(configuration) else "qlora" if quantised_bits(configuration) == 4 else "lora"
    yield Setting("method.kind", kind, key, line)


def _folder_model(configuration: Configuration, left: list[Left]) -> Iterator[Setting]:
    """Take the model that torchtune's folder of a checkpoint is named for."""
    if configuration.peer.name != "torchtune":
        return
    said = meant(configuration, "model.reference")
    if said is None or not isinstance(said.scalar, str):
        return
    reference = _known_model(said.scalar.rstrip("/").rpartition("/")[2], built_model(configuration))
    if reference is None:
        reason = f"{said.scalar} is a folder of another machine; name the model with --set model.reference=..."
        left.append(Left("checkpointer.checkpoint_dir", said.line, reason))
    else:
        yield Setting("model.reference", reference, "checkpointer.checkpoint_dir", said.line)


def _known_model(*names: str | None) -> str | None:
    for name in filter(None, names):
        try:
            return find_model(name).reference
        except FineTuneError:
            continue
    return None


def _named(configuration: Configuration, path: str, names: Mapping[str, str], left: list[Left]) -> Iterator[Setting]:
    said, meaning = meant(configuration, path), configuration.peer.meaning.get(path)
    if meaning is None:
        return
    text = str(said.scalar if said is not None else meaning.default).removeprefix("OptimizerNames.").lower()
    if text in names:
        line = said.line if said is not None else None
        yield Setting(path, names[text], stands_for(configuration, path), line)
    elif said is not None:
        left.append(Left(said.key, said.line, f"{said.scalar} is none of {', '.join(dict.fromkeys(names.values()))}"))


def _precision(configuration: Configuration) -> Iterator[Setting]:
    for name, dtype in (("bf16", "bfloat16"), ("bfloat16", "bfloat16"), ("fp16", "float16"), ("float16", "float16")):
        given = given_value(configuration, name)
        if given is not None and given.scalar in (True, "auto", "true"):
            yield Setting("precision.base_dtype", dtype, given.key, given.line)
            return
    given = given_value(configuration, "torch_dtype", "dtype")
    words = {"bf16": "bfloat16", "bfloat16": "bfloat16", "fp16": "float16", "float16": "float16"}
    if given is not None and str(given.scalar) in words:
        yield Setting("precision.base_dtype", words[str(given.scalar)], given.key, given.line)
        return
    stated = given_value(configuration, "bf16", "torch_dtype", "dtype")
    if stated is not None:
        yield Setting("precision.base_dtype", "float32", stated.key, stated.line)
    else:
        plain = configuration.peer.name in ("llamafactory", "transformers") or configuration.called & PLAIN_ARGUMENTS
        yield Setting("precision.base_dtype", "float32" if plain else "bfloat16", "bf16", None)


def _tf32(configuration: Configuration) -> Iterator[Setting]:
    given = given_value(configuration, "tf32")
    if given is not None:
        wanted = given.scalar in (True, "auto", "true")
        yield Setting("precision.tf32", wanted, given.key, given.line)


def _warmup(configuration: Configuration) -> Iterator[Setting]:
    given = given_value(configuration, "warmup_ratio", "warmup_steps", "lr_scheduler.num_warmup_steps")
    if given is None:
        yield Setting("schedule.warmup.steps", 0, "warmup_steps", None)
        return
    number = given.scalar
    if isinstance(number, int | float) and not isinstance(number, bool) and number >= 0:
        share = isinstance(number, float) and number < 1
        path = "schedule.warmup.fraction" if share else "schedule.warmup.steps"
        yield Setting(path, number if share else int(number), given.key, given.line)


def _steps_and_norm(configuration: Configuration) -> Iterator[Setting]:
    steps = meant(configuration, "schedule.max_steps")
    if steps is not None and isinstance(steps.scalar, int) and steps.scalar > 0:
        yield Setting("schedule.max_steps", steps.scalar, steps.key, steps.line)
    norm = meant(configuration, "optimizer.max_grad_norm")
    number = norm.scalar if norm is not None else None
    if norm is not None and isinstance(number, int | float):
        yield Setting("optimizer.max_grad_norm", float(number) if number else None, norm.key, norm.line)
    elif norm is None and configuration.peer.name == "torchtune":
        yield Setting("optimizer.max_grad_norm", None, "clip_grad_norm", None)


def _evaluations(configuration: Configuration, left: list[Left]) -> Iterator[Setting]:
    path = "checkpoints.evaluations_per_epoch"
    given = given_value(configuration, "evals_per_epoch")
    if given is not None and isinstance(given.scalar, int | float):
        yield Setting(path, float(given.scalar), given.key, given.line)
        return
    strategy = given_value(configuration, "eval_strategy")
    if strategy is not None and strategy.scalar == "epoch":
        yield Setting(path, 1.0, strategy.key, strategy.line)
        return
    given = given_value(configuration, "eval_steps")
    passes, meaning = meant(configuration, "schedule.epochs"), configuration.peer.meaning.get("schedule.epochs")
    epochs = passes.scalar if passes is not None else meaning.default if meaning is not None else None
    if given is None or not isinstance(epochs, int | float):
        return
    every = given.scalar
    if isinstance(every, float) and 0 < every < 1 and epochs > 0:
        yield Setting(path, _round_number(1 / (every * epochs)), given.key, given.line)
    else:
        reason = "evaluations are counted by epoch here: set checkpoints.evaluations_per_epoch"
        left.append(Left(given.key, given.line, reason))


def _round_number(value: float) -> float:
    """Undo what rounding a share to four digits did."""
    near = round(value * 4) / 4
    return near if near and abs(near - value) / value < 0.02 else round(value, 3)


def _checkpoints(configuration: Configuration) -> Iterator[Setting]:
    given = given_value(configuration, "save_total_limit")
    if given is not None and isinstance(given.scalar, int) and given.scalar > 0:
        best = given_value(configuration, "load_best_model_at_end")
        beside = 1 if best is not None and best.scalar is True else 0
        yield Setting("checkpoints.keep_last", max(1, given.scalar - beside), given.key, given.line)
    patience = meant(configuration, "checkpoints.early_stopping_patience")
    if patience is None:
        yield Setting("checkpoints.early_stopping_patience", None, "early_stopping_patience", None)


def _sampling(configuration: Configuration) -> Iterator[Setting]:
    path = "batch.group_by_length"
    said, meaning = meant(configuration, path), configuration.peer.meaning.get(path)
    if meaning is None:
        return
    value = said.scalar if said is not None else meaning.default
    line = said.line if said is not None else None
    yield Setting(path, value in (True, "group_by_length"), meaning.key, line)


def _checkpointing(configuration: Configuration) -> Iterator[Setting]:
    path = "precision.gradient_checkpointing"
    said, meaning = meant(configuration, path), configuration.peer.meaning.get(path)
    if meaning is None:
        return
    value: Scalar = said.scalar if said is not None else meaning.default
    on = value not in (False, None, "", "false", "no")
    line = said.line if said is not None else None
    yield Setting(path, not on if meaning.inverse else on, meaning.key, line)


def _targets(configuration: Configuration) -> Iterator[Setting]:
    path = "method.target_modules"
    linear = configuration.settings.get("lora_target_linear")
    if linear is not None and linear.scalar is True:
        yield Setting(path, "all-linear", "lora_target_linear", linear.key_place.line)
        return
    named = ("lora_target_modules", stands_for(configuration, path))
    key = next((name for name in named if name in configuration.settings), None)
    if configuration.peer.name == "torchtune":
        yield from _torchtune_targets(configuration)
    if key is None:
        if configuration.peer.name in ("trl", "script"):
            yield Setting(path, ["q_proj", "v_proj"], "target_modules", None)  # PEFT's own choice
        return
    content = configuration.settings[key].plain()
    modules = content.split(",") if isinstance(content, str) else content if isinstance(content, list) else []
    names = [str(name).strip() for name in modules]
    if names:
        every = names in (["all"], ["all-linear"])
        yield Setting(path, "all-linear" if every else list(names), key, configuration.settings[key].key_place.line)


def _torchtune_targets(configuration: Configuration) -> Iterator[Setting]:
    """Carry over the list of attention's layers and the switch for those of the MLP."""
    attention = configuration.settings.get("model.lora_attn_modules")
    layers = attention.plain() if attention is not None else None
    if attention is None or not isinstance(layers, list):
        return
    names: list[Json] = ["o_proj" if name == "output_proj" else name for name in layers]
    mlp = configuration.value("model.apply_lora_to_mlp") is True
    names += ["gate_proj", "up_proj", "down_proj"] if mlp else []
    yield Setting("method.target_modules", names, "model.lora_attn_modules", attention.key_place.line)


def _scale(configuration: Configuration) -> Iterator[Setting]:
    """Give LLaMA-Factory's own choice where it is not told the scale: twice the rank."""
    if configuration.peer.name == "llamafactory" and meant(configuration, "method.lora_alpha") is None:
        said = meant(configuration, "method.lora_rank")
        rank = said.scalar if said is not None else 8
        if isinstance(rank, int):
            yield Setting("method.lora_alpha", 2.0 * rank, "lora_alpha", None)


def _unused(configuration: Configuration, used: set[str]) -> Iterator[Left]:
    prefix = "args." if configuration.form == "python" else ""
    renamed = configuration.peer.renamed
    for name, item in configuration.leaves:
        if name in renamed and f"{name.rpartition('.')[0]}.{renamed[name].to}".lstrip(".") in used:
            continue
        short = name.removeprefix(prefix)
        outer = name.partition(".")[0].partition("[")[0]
        inner = name != outer and configuration.form != "python"
        if inner or name in used or outer in used or item.content is None or isinstance(item.content, Mapping):
            continue
        if (
            item.content == "tokenizer_default"
            or short.startswith(SURROUNDINGS)
            or short in ("bf16", "fp16", "load_in_4bit", "eval_steps")
        ):
            continue
        yield Left(name, item.key_place.line, "the plan has no such setting")
