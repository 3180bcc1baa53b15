"""Linear layers and experts in 4 bit with low-rank adapters; whole weights exist only while they are multiplied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig
from peft.tuners.lora.bnb import Linear4bit as PeftLinear4bit
from peft.tuners.lora.layer import ParamWrapper as PeftParamWrapper

from finetune_exe.models.factors import Factors, computed_in
from finetune_exe.models.four_bit import NormalFloat
from finetune_exe.models.low_rank_layer import FastLinear, adapted, multiplied, plain_adapter
from finetune_exe.models.packed import Added, Packed


def compute_4_bit_adapters_fast(config: LoraConfig) -> LoraConfig:
    """Let PEFT put its adapters beside layers and onto tensors in 4 bit; return the configuration."""
    config._register_custom_module({Linear4bit: Fast4bit, Packed: _beside_packed})
    return config


def _beside_packed(target: Any, adapter_name: str, *, parameter_name: str | None = None, **rest: Any) -> Any:
    """Make an adapter onto a packed tensor, or beside a linear layer whose weights are one; else leave it to PEFT."""
    if parameter_name is not None:
        return ParamWrapper(target, adapter_name, parameter_name=parameter_name, **rest)
    return FastPacked(target, adapter_name, **rest) if isinstance(target, torch.nn.Linear) else None


class Fast4bit(PeftLinear4bit):  # type: ignore[misc]  # PEFT has no types
    """PEFT's layer, whose plain adapters are computed without copies of the output.

    A single new token of an answer, for which bitsandbytes has kernels of its own, is computed as PEFT does.
    """

    def factors(self, x: torch.Tensor) -> Factors | None:
        """Give what the layer computes where its adapter is plain and `x` more than one new token."""
        name, weight = plain_adapter(self), self.base_layer.weight
        state = getattr(weight, "quant_state", None)
        one_token = x.shape[-2] == 1 and not torch.is_grad_enabled()
        if name is None or state is None or state.dtype != computed_in(x) or one_token:
            return None
        return adapted(self, name, x, weight, NormalFloat(state).whole)

    def forward(self, x: torch.Tensor, *args: Any, **rest: Any) -> torch.Tensor:
        """Compute the layer with its adapter; in any case but the plain one as PEFT does."""
        factors = None if args or rest else self.factors(x)
        return super().forward(x, *args, **rest) if factors is None else multiplied(x, factors)


class FastPacked(FastLinear):
    """The layer whose plain adapters are computed without copies of the output, over packed weights."""

    def factors(self, x: torch.Tensor) -> Factors | None:
        """Give what the layer computes where its adapter is plain."""
        name, layer = plain_adapter(self), self.get_base_layer()
        kept = layer.packed["weight"]
        if name is None or kept.dtype != computed_in(x):
            return None
        return adapted(self, name, x, layer.as_it_lies("weight"), kept.whole)


class ParamWrapper(PeftParamWrapper):  # type: ignore[misc]  # PEFT has no types, and knows it by its name
    """PEFT's adapter of a tensor, for one that lies packed: added up when it is made whole."""

    def get_param(self) -> torch.Tensor:
        """Give the tensor's form, format and device, without numbers."""
        module: Packed = self.get_base_layer()
        kept, device = module.packed[self.parameter_name], module.as_it_lies(self.parameter_name).device
        return torch.empty((), dtype=kept.dtype, device=device).expand(kept.shape)

    def _factors(self, name: str) -> Added:
        if self.num_experts > 1:
            return Added(*self.get_delta_factors(name))
        dtype = self.get_param().dtype
        return Added(self.lora_B[name].weight.to(dtype), self.lora_A[name].weight.to(dtype), self.scaling[name])

    @contextmanager
    def _activate_lora(self, active_adapters: list[str]) -> Iterator[None]:
        added = self.get_base_layer().added
        added[self.parameter_name] = tuple(self._factors(name) for name in active_adapters if name in self.lora_A)
        try:
            yield
        finally:
            del added[self.parameter_name]
