"""Optimizers by name, and which weights they treat alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

from finetune_exe.domain.plan import Full, LowRank, Method, Optimizer, OptimizerName
from finetune_exe.training.masters import MasterWeights

if TYPE_CHECKING:
    import torch

_SPARED = ("ia3_l", "trainable_tokens_delta")
"""Parts of names of matrices that weight decay spares: factors would be pulled from one to zero, and embeddings of a
few tokens away from the others'."""


class Group(TypedDict):
    """Parameters with the same settings, in PyTorch's form."""

    params: list[torch.nn.Parameter]
    weight_decay: float
    lr_ratio: float
    """Learning rate over the one of the schedule."""


def parameter_groups(
    named: Iterable[tuple[str, torch.nn.Parameter]], method: Method, *, weight_decay: float
) -> list[Group]:
    """Sort what is trained by weight decay and learning rate.

    Vectors, which are norms, biases and lengths, are not pulled towards zero. The second factor of an adapter may have
    a higher learning rate.

    Args:
        named: All parameters of the model by name.
        method: Says whether it has such a ratio.
        weight_decay: Of everything that is not spared.

    Source: transformers' Trainer, get_decay_parameter_names; Hayou et al. 2024, LoRA+, arXiv 2402.12354.
    """
    ratio = (method.lora_plus_ratio or 1.0) if isinstance(method, LowRank) else 1.0
    groups: dict[tuple[float, float], Group] = {}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        spared = parameter.ndim < 2 or any(part in name for part in _SPARED)
        decay, rate = 0.0 if spared else weight_decay, ratio if "lora_B" in name else 1.0
        group = groups.setdefault((decay, rate), Group(params=[], weight_decay=decay, lr_ratio=rate))
        group["params"].append(parameter)
    return list(groups.values())


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its learning rate at a step where the schedule says `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_ratio", 1.0)


def make_optimizer(settings: Optimizer, groups: list[Group], method: Method) -> Any:
    """Make the plan's optimizer over float32 weights, or over those that full training keeps in bfloat16.

    A tensor of less than 4,096 numbers keeps float32 states even where the others' are in 8 bit.
    """
    make = partial(OPTIMIZERS[settings.kind], settings)
    if isinstance(method, Full) and method.masters != "float32":
        return MasterWeights(groups, make, masters=method.masters)
    return make(groups)


def _adamw(settings: Optimizer, groups: Any) -> torch.optim.Optimizer:
    from torch.optim import AdamW

    return AdamW(groups, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), fused=True)


def _adamw_8bit(settings: Optimizer, groups: Any) -> torch.optim.Optimizer:
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(groups, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2))


def _paged_adamw_8bit(settings: Optimizer, groups: Any) -> torch.optim.Optimizer:
    from finetune_exe.training.paged import PagedAdamW

    return PagedAdamW(groups, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2))


def _lion(settings: Optimizer, groups: Any) -> torch.optim.Optimizer:
    from bitsandbytes.optim import Lion

    return Lion(groups, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2))


def _adafactor(settings: Optimizer, groups: Any) -> torch.optim.Optimizer:
    """Follow the schedule's learning rate as it is, not scaled by the weights or the step."""
    from transformers.optimization import Adafactor

    return Adafactor(groups, lr=settings.learning_rate, scale_parameter=False, relative_step=False)


OPTIMIZERS: dict[OptimizerName, Callable[[Optimizer, Any], Any]] = {
    "adamw": _adamw,
    "adamw_8bit": _adamw_8bit,
    "paged_adamw_8bit": _paged_adamw_8bit,
    "lion": _lion,
    "adafactor": _adafactor,
}
FROM_BITSANDBYTES: frozenset[OptimizerName] = frozenset({"adamw_8bit", "paged_adamw_8bit", "lion"})
"""Those that bitsandbytes brings."""
