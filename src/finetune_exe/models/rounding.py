"""Let adapters beside weights in 4 bit begin as the largest part of what rounding took from these weights."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_exe.models.headers import stored_tensors
from finetune_exe.models.load import Dtype, load_model, torch_dtype
from finetune_exe.models.positions import position_limit
from finetune_exe.models.without_weights import model_without_weights
from finetune_exe.text.generic_texts import GENERIC_TEXTS
from finetune_exe.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    import torch

_PLAIN = ("F32", "BF16", "F16")
"""Formats in which a number of a file is the weight itself."""
_OVERSAMPLED, _ITERATIONS = 8, 4
"""More columns than are kept, and passes over the matrix, which bring the random projection close to the optimum.

Source: Halko, Martinsson and Tropp, arXiv 0909.4061, sections 4.2 and 4.5."""
_LEAST = 1e-3
"""An input counts as at least this share of the mean one, so that none is divided by zero."""


def offset_rounding(model: Any, base: Path, *, dtype: Dtype) -> int:
    """Let the low-rank adapters of a model in 4 bit begin by offsetting its rounding; count the layers.

    The product of a layer's two factors becomes the truncated singular value decomposition of the rounding error, each
    column of which counts by the root mean square of its input on general text. Layers that lose nothing have no such
    error and begin at zero, as ever. Whole weights are read one layer after the other.

    Source: LoftQ, arXiv 2310.08659, which begins so; LQ-LoRA, arXiv 2311.12023, section 4, which weighs the error.

    Args:
        model: PEFT's model as it was attached, on its device.
        base: Folder of the base model.
        dtype: Format in which the base is computed, and of which the 4-bit weights are the rounding.
    """
    import torch

    from finetune_exe.models.low_rank_4_bit import Fast4bit, FastPacked

    kinds = (Fast4bit, FastPacked)
    layers = {name: one for name, one in model.get_base_model().named_modules() if isinstance(one, kinds)}
    sizes = _input_sizes(model, layers, base, dtype=dtype)
    whole_of = _whole_weights(base, layers, dtype=dtype)
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(0)
        for name, layer in layers.items():
            _begin(layer, whole_of(name), sizes[name])
    return len(layers)


def _whole_weights(base: Path, names: Collection[str], *, dtype: Dtype) -> Callable[[str], torch.Tensor]:
    """Give what reads the whole weights of a layer: alone, out of its file, where they lie there as the model has them.

    Where not, as in a file of other names, the whole model is loaded beside the one in 4 bit.
    """
    from safetensors import safe_open
    from transformers.pytorch_utils import Conv1D

    stored = {tensor.name: (file, tensor) for file in base.glob("*.safetensors") for tensor in stored_tensors(file)}
    model: Any = model_without_weights(base)

    def as_it_is(name: str) -> bool:
        _, tensor = stored.get(f"{name}.weight", (None, None))
        return tensor is not None and tensor.dtype in _PLAIN and tensor.shape == model.get_submodule(name).weight.shape

    def read(name: str) -> torch.Tensor:
        with safe_open(stored[f"{name}.weight"][0], framework="pt") as file:
            return turned(name, file.get_tensor(f"{name}.weight").to(torch_dtype(dtype)))

    def turned(name: str, weight: torch.Tensor) -> torch.Tensor:
        return weight.T if isinstance(model.get_submodule(name), Conv1D) else weight

    if model is not None and all(map(as_it_is, names)):
        return read
    model = load_model(base, dtype=dtype, device="cpu")
    return lambda name: turned(name, model.get_submodule(name).weight)


def _input_sizes(model: Any, layers: dict[str, Any], base: Path, *, dtype: Dtype) -> dict[str, torch.Tensor]:
    """Give the root mean square of each input of each layer over general text, as a share of the layer's mean."""
    import torch

    device = next(model.parameters()).device
    sums = {name: torch.zeros(layer.in_features, device=device) for name, layer in layers.items()}

    def adds_up(name: str) -> Any:
        def add(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            sums[name] += inputs[0].float().flatten(0, -2).square().sum(0)

        return add

    hooks = [layer.register_forward_pre_hook(adds_up(name)) for name, layer in layers.items()]
    tokenizer, training = load_tokenizer(base, chat_template=None), model.training
    model.eval()
    with torch.no_grad(), torch.autocast(device.type, dtype=torch_dtype(dtype), enabled=dtype != "float32"):
        for text in GENERIC_TEXTS:
            tokens = tokenizer.encode(text).ids[: position_limit(model)]
            model(input_ids=torch.tensor([tokens], device=device), use_cache=False)
    model.train(training)
    for hook in hooks:
        hook.remove()
    return {name: _shares(total) for name, total in sums.items()}


def _shares(squares: torch.Tensor) -> torch.Tensor:
    """Give roots as shares of their mean; alike where a layer, such as that of an expert, met no token."""
    import torch

    roots = squares.sqrt()
    return torch.ones_like(roots) if not roots.any() else (roots / roots.mean()).clamp_min(_LEAST)


def _begin(layer: Any, whole: torch.Tensor, sizes: torch.Tensor) -> None:
    """Set the factors of a layer, and DoRA's lengths to those of the weights that result."""
    import torch

    from finetune_exe.models.four_bit import whole_weight

    (name,), rounded = layer.active_adapters, whole_weight(layer.base_layer).float()
    error = (whole.to(rounded.device, torch.float32) - rounded) * sizes
    if not error.any():
        return
    rank = min(layer.r[name], *error.shape)
    left, values, right = torch.svd_lowrank(error, q=min(rank + _OVERSAMPLED, *error.shape), niter=_ITERATIONS)
    roots = (values[:rank] / layer.scaling[name]).sqrt()
    first, second = layer.lora_A[name].weight, layer.lora_B[name].weight
    first[:rank] = (right[:, :rank] * roots).T / sizes
    second[:, :rank] = left[:, :rank] * roots
    if name in layer.lora_magnitude_vector:
        begun = rounded + layer.scaling[name] * (second @ first)
        layer.lora_magnitude_vector[name].weight.copy_(torch.linalg.norm(begun, dim=1))
