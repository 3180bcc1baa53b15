"""Experts, which transformers keeps as one tensor for all of a block: where adapters go in models that have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

Targets = Literal["all-linear"] | Sequence[str]
_INTO, _OUT_OF = ("gate_up_proj", "gate_proj", "up_proj", "w1", "w3"), ("down_proj", "w2")
"""What the matrices of MLPs are called: experts have `gate_up_proj`, or `up_proj` alone, and `down_proj`."""
_NAMES_IN_PARAMETERS = 3
"""Last parts of a parameter's name that say which one is meant in every block."""


class Places(NamedTuple):
    """Where adapters go, in PEFT's words."""

    modules: list[str]
    """Last parts of the names of linear layers."""
    parameters: list[str]
    """Last parts of the names of tensors: experts, and the MLPs beside them."""
    excluded: list[str]
    """Linear layers that carry such a name and get none."""


def has_experts(model: Any) -> bool:
    """Say whether a model keeps experts as one tensor."""
    return any(True for _ in _stacks(model))


def places_beside_experts(model: Any, targets: Targets, *, excluded: Sequence[str]) -> Places:
    """Say where adapters go in a model with experts.

    All linear layers are those of attention, every expert and every MLP beside or for experts; not those that choose
    experts. MLPs are named by their tensors too: of some architectures PEFT takes the names of their layers for those
    of experts, and passes over the layers.

    Args:
        model: A base model with experts.
        targets: The plan's.
        excluded: Linear layers where an adapter would do harm.
    """
    import torch

    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    choosing = set(_choosing(model, linear))
    head = model.get_output_embeddings()
    if targets == "all-linear":
        adapted = {n for n, module in linear.items() if module is not head} - choosing - set(excluded)
    else:
        adapted = {n for n in linear if any(f".{n}".endswith(f".{target}") for target in targets)} - set(excluded)
    by_tensor = {name for name in adapted if _last(name) in (*_INTO, *_OUT_OF)}
    modules = {_last(name) for name in adapted - by_tensor}
    tensors = [f"{name}.weight" for name in by_tensor]
    tensors += [name for name in _stacks(model) if _wants(targets, _last(name))]
    unwanted = [name for name in linear if _last(name) in modules and name not in adapted]
    return Places(sorted(modules), sorted({_in_every_block(name) for name in tensors}), sorted(unwanted))


def kept_whole(folder: Path, targets: Targets) -> list[str]:
    """Name the layers that QLoRA does not keep in 4 bit, because an adapter goes to their tensor itself.

    Those are the MLPs beside or for experts, where any of them gets one; in models without experts there are none.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if targets != "all-linear" and not any(target in (*_INTO, *_OUT_OF) for target in targets):
        return []
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
    if not has_experts(model):
        return []
    return [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and _last(n) in (*_INTO, *_OUT_OF)]


def _stacks(model: Any) -> Iterator[str]:
    """Name the tensors that hold one matrix for each expert of a block."""
    import torch

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv1d):
            continue
        for own, parameter in module.named_parameters(recurse=False):
            if parameter.ndim == 3 and parameter.is_floating_point():
                yield f"{name}.{own}"


def _choosing(model: Any, linear: dict[str, Any]) -> Iterator[str]:
    """Name the layers that weigh experts, or what stands beside them: they give a number for each, or one."""
    for stack in _stacks(model):
        block = stack.rpartition(".")[0].rpartition(".")[0]
        experts = model.get_parameter(stack).shape[0]
        for name, module in linear.items():
            if name.startswith(f"{block}.") and module.out_features in (1, experts):
                yield name


def _wants(targets: Targets, tensor: str) -> bool:
    """Say whether the experts' `tensor` is meant: they have gate and up together."""
    return targets == "all-linear" or any(
        tensor in alike and target in alike for alike in (_INTO, _OUT_OF) for target in targets
    )


def _in_every_block(name: str) -> str:
    return ".".join(name.split(".")[-_NAMES_IN_PARAMETERS:])


def _last(name: str) -> str:
    return name.rpartition(".")[2]
