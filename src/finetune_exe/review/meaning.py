"""What a configuration says in the words of our plan."""

from __future__ import annotations

import re
from typing import NamedTuple

from finetune_exe.domain.values import Scalar
from finetune_exe.domain.yaml_tree import Item, Place
from finetune_exe.review.configuration import Configuration

_BUILDER = re.compile(r"(?:q?lora_)?(llama|qwen|gemma)(\d)(?:_([123](?!_5b)|5(?=_\d)))?_(\d+(?:_5)?)b")
"""torchtune's names of functions that build a model."""


class Said(NamedTuple):
    """A key that a file has, with its value."""

    key: str
    item: Item

    @property
    def scalar(self) -> Scalar:
        """The value, where it is a single one that is known; else None."""
        return self.item.scalar

    @property
    def place(self) -> Place:
        """Where the value stands."""
        return self.item.place

    @property
    def line(self) -> int:
        """Where the key stands."""
        return self.item.key_place.line


def stands_for(configuration: Configuration, path: str) -> str:
    """Give the key that stands for a setting of our plan; nothing where the program has none."""
    meaning = configuration.peer.meaning.get(path)
    if path == "model.reference" and configuration.form == "python":
        named = ("model.model_name", "model.()", "model.pretrained_model_name_or_path", "trainer.model")
        return next((name for name in named if name in configuration.settings), "model.()")
    if path == "data.max_length" and configuration.peer.name == "unsloth" and meaning is not None:
        named = (meaning.key, "args.max_length", "args.max_seq_length", "trainer.max_seq_length")
        return next((name for name in named if name in configuration.settings), meaning.key)
    return meaning.key if meaning is not None else ""


def meant(configuration: Configuration, path: str) -> Said | None:
    """Give what stands for a setting of our plan; None where the file says nothing."""
    key = stands_for(configuration, path)
    item = configuration.settings.get(key)
    return None if item is None or item.content is None else Said(key, item)


def built_model(configuration: Configuration) -> str | None:
    """Give the model that torchtune's function builds, as it is spoken: llama 3.1 8b for llama3_1_8b."""
    built = str(configuration.value("model._component_") or "").rpartition(".")[2]
    found = _BUILDER.match(built)
    if found is None:
        return None
    family, version, minor, size = found.groups()
    return f"{family} {version}{f'.{minor}' if minor else ''} {size.replace('_', '.')}b"


def is_adapted(configuration: Configuration) -> bool:
    """Say whether adapters are trained, rather than the weights themselves."""
    value = configuration.value
    match configuration.peer.name:
        case "axolotl":
            return bool(value("adapter"))
        case "llamafactory":
            return value("finetuning_type") in (None, "lora", "oft")
        case "ms-swift":
            return value("tuner_type") != "full" and value("train_type") != "full" and value("sft_type") != "full"
        case "trl":
            return value("use_peft") is True
        case "mlx":
            return value("fine_tune_type") != "full"
        case "litgpt":
            return any(name.startswith("lora_") for name in configuration.settings)
        case "torchtune":
            return "lora" in str(value("model._component_"))
        case "unsloth":
            return value("model.full_finetuning") is not True
        case _:
            return "lora" in configuration.settings or "trainer.peft_config" in configuration.settings


def quantised_bits(configuration: Configuration) -> int | None:
    """Give the bits of a frozen weight where the model is quantised."""
    four = first_value(configuration, "load_in_4bit", "model.load_in_4bit", "quantization.load_in_4bit")
    eight = first_value(configuration, "load_in_8bit", "model.load_in_8bit", "quantization.load_in_8bit")
    given = first_value(configuration, "quantization_bit", "quant_bits")
    quantised = four is True or given == 4 or (configuration.peer.name == "unsloth" and four is None)
    component = str(configuration.value("model._component_") or "")
    return 4 if quantised or "qlora" in component else 8 if eight is True or given == 8 else None


def first_value(configuration: Configuration, *names: str) -> Scalar:
    """Give the value of the first of some keys that is there."""
    return next((item.scalar for name in names if (item := configuration.settings.get(name)) is not None), None)


def given_value(configuration: Configuration, *names: str) -> Said | None:
    """Give the first of some keys that is there with a value that is known."""
    prefix = "args." if configuration.form == "python" else ""
    for name in names:
        item = configuration.settings.get(prefix + name)
        if item is not None and item.content is not None and not item.computed:
            return Said(prefix + name, item)
    return None
