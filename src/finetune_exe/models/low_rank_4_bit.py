"""A linear layer in 4 bit with a low-rank adapter; whole weights exist only while they are multiplied."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig
from peft.tuners.lora.bnb import Linear4bit as PeftLinear4bit

from finetune_exe.models.factors import Factors, computed_in
from finetune_exe.models.low_rank_layer import adapted, multiplied, plain_adapter


def compute_4_bit_adapters_fast(config: LoraConfig) -> LoraConfig:
    """Let PEFT put `Fast4bit` beside layers in 4 bit; return the configuration."""
    config._register_custom_module({Linear4bit: Fast4bit})
    return config


class Fast4bit(PeftLinear4bit):  # type: ignore[misc]  # PEFT has no types
    """PEFT's layer, whose plain adapters are computed without copies of the output.

    A single new token of an answer, for which bitsandbytes has kernels of its own, is computed as PEFT does.
    """

    def factors(self, x: torch.Tensor) -> Factors | None:
        """Give what the layer computes where its adapter is plain and `x` more than one new token."""
        name, weight = plain_adapter(self), self.base_layer.weight
        state: QuantState | None = getattr(weight, "quant_state", None)
        one_token = x.shape[-2] == 1 and not torch.is_grad_enabled()
        if name is None or state is None or state.dtype != computed_in(x) or one_token:
            return None
        return adapted(self, name, x, weight, partial(_whole, state=state))

    def forward(self, x: torch.Tensor, *args: Any, **rest: Any) -> torch.Tensor:
        """Compute the layer with its adapter; in any case but the plain one as PEFT does."""
        factors = None if args or rest else self.factors(x)
        return super().forward(x, *args, **rest) if factors is None else multiplied(x, factors)


def _whole(packed: torch.Tensor, *, state: QuantState) -> torch.Tensor:
    whole: torch.Tensor = dequantize_4bit(packed, state)
    return whole
