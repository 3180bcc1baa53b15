"""Let tensors of any module come to lie in 4 bit as a model is read, each as soon as it is there."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from bitsandbytes.functional import quantize_4bit
from transformers import BitsAndBytesConfig
from transformers.integrations.bitsandbytes import Bnb4bitQuantize
from transformers.quantizers import register_quantizer
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

from finetune_exe.domain.plan import Qlora
from finetune_exe.models.four_bit import Kept, NormalFloat, found_on_grid
from finetune_exe.models.packed import Packed

_NAME = "finetune_exe_4bit_tensors"
"""What transformers finds this way to quantise by."""


def pack_tensors(config: BitsAndBytesConfig, names: list[str], method: Qlora) -> BitsAndBytesConfig:
    """Let transformers keep the named tensors in 4 bit as well, each packed as soon as it is read."""
    _make_known()
    config.quant_method, config.tensors, config.quantization = _NAME, names, method.quantization
    return config


@cache
def _make_known() -> None:
    register_quantizer(_NAME)(_Quantizer)


class _Quantizer(Bnb4BitHfQuantizer):  # type: ignore[misc]  # transformers' own, for more than linear layers
    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.kept: dict[str, Kept] = {}

    def param_needs_quantization(self, model: Any, param_name: str, **rest: Any) -> bool:
        linear: bool = super().param_needs_quantization(model, param_name, **rest)
        return linear or param_name in self.quantization_config.tensors

    def get_quantize_ops(self) -> _Quantize:
        return _Quantize(self)

    def _process_model_before_weight_loading(self, model: Any, **rest: Any) -> None:
        super()._process_model_before_weight_loading(model, **rest)
        if self.quantization_config.quantization != "nf4":  # what lies on a grid would not do so once rounded
            model._keep_in_fp32_modules_strict.update(self.quantization_config.tensors)

    def _process_model_after_weight_loading(self, model: Any, **rest: Any) -> Any:
        for name, kept in self.kept.items():
            path, _, tensor = name.rpartition(".")
            module = model.get_submodule(path)
            if not isinstance(module, Packed):
                module.packed, module.added, module.in_use, module.computed_again = {}, {}, None, False
            module.packed[tensor] = kept
            own: Any = type(module)
            module.__class__ = _with_packed(own, tensor)
        return super()._process_model_after_weight_loading(model, **rest)


class _Quantize(Bnb4bitQuantize):  # type: ignore[misc]  # likewise
    def convert(self, input_dict: dict[str, Any], **rest: Any) -> dict[str, Any]:
        """Pack what has just been read."""
        config = self.hf_quantizer.quantization_config
        ((name, value),) = input_dict.items()
        if name not in config.tensors:
            return super().convert(input_dict, **rest)
        packed, self.hf_quantizer.kept[name] = _rounded(value[0] if isinstance(value, list) else value, config)
        return {name: torch.nn.Parameter(packed, requires_grad=False)}


def _rounded(value: torch.Tensor, config: Any) -> tuple[torch.Tensor, Kept]:
    """Keep a tensor on the grid that it lies on, else in NormalFloat."""
    dtype = config.bnb_4bit_compute_dtype
    if config.quantization != "nf4":
        if (found := found_on_grid(config.quantization, value, dtype=dtype)) is not None:
            return found
        value = value.to(dtype)
    packed, state = quantize_4bit(
        value, quant_type=config.bnb_4bit_quant_type, compress_statistics=config.bnb_4bit_use_double_quant
    )
    return packed, NormalFloat(state)


@cache
def _with_packed(own: type, name: str) -> type:
    """Make a class whose tensor of that name is found whole."""
    bases = (own,) if issubclass(own, Packed) else (Packed, own)
    tensor = property(lambda self: self.whole(name))
    return type(own.__name__, bases, {name: tensor, "__module__": own.__module__})
