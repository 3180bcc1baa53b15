"""Where low-rank adapters go in a model: beside linear layers, and onto experts, which are one tensor in each block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from finetune_exe.models.reading import reading

if TYPE_CHECKING:
    import torch

Targets = Literal["all-linear"] | Sequence[str]
"""The plan's `method.target_modules`."""
_INTO, _OUT_OF = ("gate_up_proj", "gate_proj", "up_proj", "w1", "w3"), ("down_proj", "w2")
"""What the matrices of MLPs are called: experts have `gate_up_proj`, or `up_proj` alone, and `down_proj`."""
_MLP = (*_INTO, *_OUT_OF)
_USED_UNCALLED = ("dt_proj", "out_proj")
"""Layers of state-space blocks whose weights are multiplied without calling them, by PyTorch or by fused kernels.

Source: transformers 5.23, Mamba and its kin; PEFT 0.21 refuses `out_proj` in some of them."""
_NAMES_IN_PARAMETERS = 3
"""Last parts of a parameter's name that say which one is meant in every block."""


class Places(NamedTuple):
    """Where adapters go, in the words of PEFT's configuration."""

    target_modules: str | list[str]
    exclude_modules: list[str] | None
    target_parameters: list[str] | None
    """Last parts of the names of tensors: experts, and the MLPs beside them."""


def adapter_places(model: Any, targets: Targets) -> Places:
    """Say where adapters go.

    All linear layers are those of attention, of MLPs, and of every expert; not those that choose experts. In models
    with experts MLPs are named by their tensors too: of some architectures PEFT takes the names of their layers for
    those of experts, and passes over the layers.

    Args:
        model: A base model, which a few tokens are run through.
        targets: Names of layers, or all of them.
    """
    import torch

    harmed = _harmed(model)
    if not any(True for _ in _stacks(model)):
        return Places(targets if isinstance(targets, str) else list(targets), harmed or None, None)
    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    if targets == "all-linear":
        spared = {*_choosing(model, linear), *(n for n in linear if linear[n] is model.get_output_embeddings())}
        adapted = linear.keys() - spared - set(harmed)
    else:
        adapted = {n for n in linear if any(f".{n}".endswith(f".{target}") for target in targets)} - set(harmed)
    by_tensor = {name for name in adapted if _last(name) in _MLP}
    modules = {_last(name) for name in adapted - by_tensor}
    tensors = [f"{name}.weight" for name in by_tensor]
    tensors += [name for name, _ in _stacks(model) if _wants(targets, _last(name))]
    return Places(
        target_modules=sorted(modules),
        exclude_modules=sorted(n for n in linear if _last(n) in modules and n not in adapted) or None,
        target_parameters=sorted({".".join(name.split(".")[-_NAMES_IN_PARAMETERS:]) for name in tensors}) or None,
    )


class Kept(NamedTuple):
    """How the weights of a model are kept where linear layers are in 4 bit."""

    whole: list[str] | None
    """Layers that are not in 4 bit as layers; None for the usual ones."""
    packed: list[str]
    """Tensors that are in 4 bit by themselves: experts, and others that an adapter goes to directly."""


def kept_in_4_bit(model: Any, targets: Targets, *, by_tensor: bool) -> Kept:
    """Say how QLoRA keeps a model's weights.

    Beside the output matrix, layers whose weights are used without calling them stay whole. In models with experts the
    MLPs beside or for experts are tensors in 4 bit as the experts are, if they get an adapter.

    Args:
        model: A base model without weights.
        targets: What gets an adapter.
        by_tensor: Whether the weights of all linear layers are tensors in 4 bit.
    """
    whole, packed = _uncalled(model), [name for name, _ in _stacks(model)]
    head = [name for name, module in model.named_modules() if module is model.get_output_embeddings()]
    alone: list[str] = []
    if by_tensor or (packed and (targets == "all-linear" or not set(_MLP).isdisjoint(targets))):
        layers = [name for name, module in model.named_modules() if _is_linear(module)]
        alone = [name for name in layers if name not in (*whole, *head) and (by_tensor or _last(name) in _MLP)]
    whole += alone
    return Kept([*whole, *head] if whole else None, [*packed, *(f"{name}.weight" for name in alone)])


def _is_linear(module: Any) -> bool:
    import torch
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, torch.nn.Linear | Conv1D)


class ExpertWeights(NamedTuple):
    """Weights that a model keeps as one tensor for all experts of a block."""

    total: int
    adapted: int
    """Of them, those with an adapter."""


def expert_weights(model: Any) -> ExpertWeights:
    """Count the weights of experts in a model, adapters or not."""
    from peft.tuners.lora.layer import ParamWrapper

    total = sum(shape.numel() for _, shape in _stacks(model))
    wrapped = (module.get_param() for module in model.modules() if isinstance(module, ParamWrapper))
    return ExpertWeights(total, sum(tensor.numel() for tensor in wrapped if tensor.ndim == 3))


def packed_away(model: Any) -> int:
    """Count the weights of tensors in 4 bit beyond the bytes that they lie in."""
    from finetune_exe.models.packed import Packed

    found = (module for module in model.modules() if isinstance(module, Packed))
    return sum(state.shape.numel() - module.as_it_lies(name).numel()
               for module in found for name, state in module.packed.items())  # fmt: skip


def _harmed(model: Any) -> list[str]:
    """Name the linear layers beside which an adapter would break a model or learn nothing.

    Some routers of experts give more than what they multiply, and some blocks use the weights of a layer without
    calling it. A layer whose block is not called either may be an expert's that no token was sent to.
    """
    import torch

    given: dict[torch.nn.Module, Any] = {}

    def look(module: torch.nn.Module, _: Any, output: Any) -> None:
        given[module] = output if isinstance(output, torch.Tensor) else None

    hooks = [module.register_forward_hook(look) for module in model.modules()]
    with reading(model):
        model(input_ids=torch.arange(1, 9, device=model.device).unsqueeze(0), use_cache=False)
    for hook in hooks:
        hook.remove()
    uncalled = set(_uncalled(model))
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and (name in uncalled or (given.get(module) is None and (module in given or _block(model, name) in given)))
    ]


def _uncalled(model: Any) -> list[str]:
    """Name the layers of state-space blocks that are used without being called; such a block has a skip called D."""
    names = (name for name, _ in model.named_modules() if _last(name) in _USED_UNCALLED)
    return [name for name in names if getattr(_block(model, name), "D", None) is not None]


def _stacks(model: Any) -> Iterator[tuple[str, torch.Size]]:
    """Name the tensors that hold one matrix for each expert of a block, with their shapes."""
    import torch

    from finetune_exe.models.packed import Packed

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv1d):
            continue
        packed = module.packed if isinstance(module, Packed) else {}
        for own, parameter in module.named_parameters(recurse=False):
            shape = packed[own].shape if own in packed else parameter.shape
            if len(shape) == 3 and (own in packed or parameter.is_floating_point()):
                yield f"{name}.{own}", shape


def _choosing(model: Any, linear: dict[str, Any]) -> Iterator[str]:
    """Name the layers that weigh experts, or what stands beside them: they give a number for each, or one."""
    for stack, (experts, *_) in _stacks(model):
        block = stack.rpartition(".")[0].rpartition(".")[0]
        for name, module in linear.items():
            if name.startswith(f"{block}.") and module.out_features in (1, experts):
                yield name


def _wants(targets: Targets, tensor: str) -> bool:
    """Say whether the experts' `tensor` is meant: they have gate and up together."""
    alike = next((names for names in (_INTO, _OUT_OF) if tensor in names), (tensor,))
    return targets == "all-linear" or not set(alike).isdisjoint(targets)


def _block(model: Any, name: str) -> Any:
    return model.get_submodule(name.rpartition(".")[0])


def _last(name: str) -> str:
    return name.rpartition(".")[2]
