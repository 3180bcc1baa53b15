"""What model there is, or is wished for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetune_exe.domain.plan import BaseModelChoice
from finetune_exe.domain.values import Hardware, ModelShape
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.parameters import count_parameters
from finetune_exe.knowledge.models import EMBEDDED_MODEL, ModelFacts, find_model, names_a_variant
from finetune_exe.knowledge.rules import rule
from finetune_exe.units import GIB

SUGGESTED = ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct")
"""Open, ungated chat models of one family, largest first."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def describe_model(reference: str) -> BaseModelChoice:
    """Say what is known of a base model, without loading it and without the network.

    Args:
        reference: "embedded", a folder with config.json, a GGUF file, a hub id, or a known model's name.

    Returns:
        The choice; its shape is None for a GGUF file and for hub ids not known here.

    Raises:
        FineTuneError: M01 for a path that does not exist or a name nobody knows; M03 for a folder whose config.json
            is missing or cannot be read.
    """
    if reference == "embedded":
        return _known(find_model(EMBEDDED_MODEL), reference="embedded")
    path = Path(reference).expanduser()
    if path.is_dir():
        return _folder(reference, path)
    if path.is_file():
        if path.suffix.lower() == ".gguf":
            return BaseModelChoice(reference=reference, name=path.stem)
        raise _not_found(reference, "it is a file, but no GGUF file")
    if path.suffix.lower() == ".gguf" or reference.startswith((".", "/", "~")) or reference.count("/") > 1:
        raise _not_found(reference, "there is no such file or folder")
    if not _HUB_ID.fullmatch(reference):
        facts = find_model(reference)
        return _known(facts, reference=facts.reference)
    try:
        facts = find_model(reference)
    except FineTuneError:
        return BaseModelChoice(reference=reference, name=reference.rpartition("/")[2])
    return _known(facts, reference=reference)


def choose_model(wish: str | None, *, hardware: Hardware) -> BaseModelChoice:
    """Give the model wished for, or else the one to suggest: what fits the GPU, the embedded model without one.

    Raises:
        FineTuneError: as `describe_model`.
    """
    if wish is not None:
        return describe_model(wish)
    known = rule("suggested_model_memory")
    width = 2 if hardware.computes_bf16 else 4
    for reference in SUGGESTED if hardware.gpus else ():
        needed = find_model(reference).num_parameters * width * known["factor"] + known["extra_gib"] * GIB
        if needed <= hardware.accelerator_memory_bytes:
            return describe_model(reference)
    return describe_model("embedded")


def _known(facts: ModelFacts, *, reference: str) -> BaseModelChoice:
    base = (
        "/" in reference
        and facts.reference != facts.base_reference
        and not names_a_variant(reference.rpartition("/")[2])
    )
    return BaseModelChoice(
        reference=reference,
        name=(facts.base_reference if base else facts.reference).rpartition("/")[2],
        shape=facts.shape,
        num_parameters=facts.num_parameters,
        context_length=facts.context_length,
        license=facts.license,
    )


def _folder(reference: str, path: Path) -> BaseModelChoice:
    file = path / "config.json"
    try:
        config = json.loads(file.read_bytes())
    except FileNotFoundError as fault:
        raise _incomplete(path, "config.json is missing") from fault
    except (OSError, ValueError) as fault:
        raise _incomplete(path, f"config.json cannot be read: {fault}") from fault
    if not isinstance(config, dict):
        raise _incomplete(path, "config.json holds no object")
    shape = _shape(config)
    context = config.get("max_position_embeddings", config.get("n_positions"))
    return BaseModelChoice(
        reference=reference,
        name=path.resolve().name,
        shape=shape,
        num_parameters=count_parameters(shape) if shape else None,
        context_length=context if isinstance(context, int) else None,
    )


def _shape(config: dict[str, Any]) -> ModelShape | None:
    """Read the dimensions under the names Llama-like and GPT-2-like configurations give them; None for others."""

    def first(*names: str) -> Any:
        return next((config[name] for name in names if config.get(name) is not None), None)

    gpt2 = config.get("model_type") == "gpt2"
    hidden, heads = first("hidden_size", "n_embd"), first("num_attention_heads", "n_head")
    try:
        return ModelShape(
            hidden_size=hidden,
            intermediate_size=first("moe_intermediate_size", "intermediate_size", "n_inner") or 4 * hidden,
            num_layers=first("num_hidden_layers", "n_layer"),
            num_attention_heads=heads,
            num_key_value_heads=first("num_key_value_heads") or heads,
            head_dim=first("head_dim") or hidden // heads,
            vocab_size=first("vocab_size"),
            tied_embeddings=bool(config.get("tie_word_embeddings", gpt2)),
            gated_mlp=not gpt2,
            num_experts=first("num_local_experts", "num_experts", "n_routed_experts") or 1,
        )
    except (TypeError, ZeroDivisionError, ValidationError):
        return None


def _not_found(reference: str, what: str) -> FineTuneError:
    return FineTuneError(
        "M01",
        what=f"the model {reference!r} cannot be found: {what}",
        where=reference,
        why="without it nothing can be trained",
        fix='give a folder with config.json, a GGUF file, a hub id such as Qwen/Qwen2.5-0.5B-Instruct, or "embedded"',
    )


def _incomplete(path: Path, what: str) -> FineTuneError:
    return FineTuneError(
        "M03",
        what=what,
        where=str(path),
        why="it says what kind of model the weights belong to",
        fix="copy the whole model folder: config.json, the weights, and the tokenizer's files",
    )
