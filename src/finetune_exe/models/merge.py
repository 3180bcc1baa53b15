"""Fold what an adapter learned into the weights it changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetune_exe.domain.plan import Full, Method, Prefix, Prompt, Qlora
from finetune_exe.errors import FineTuneError
from finetune_exe.models.load import Dtype, load_base, load_model, torch_dtype
from finetune_exe.models.methods import training_method
from finetune_exe.models.methods.tokens import make_room, token_numbers


def merged(model: Any) -> Any:
    """Fold an adapter that changes weights into them, so that each token takes fewer operations.

    A model whose adapter stands before the rows is given back as it is, and one whose weights are kept in 4 bit.
    """
    from peft import IA3Config, LoraConfig, PeftModel

    if not isinstance(model, PeftModel) or not isinstance(model.active_peft_config, LoraConfig | IA3Config):
        return model
    if getattr(model.get_base_model(), "quantization_method", None) is not None:
        return model
    return _folded(model)


def merge_checkpoint(checkpoint: Path, base: Path, method: Method, *, dtype: Dtype, device: str) -> Any:
    """Load a checkpoint as a whole model that needs no adapter, computed in float32 and kept in `dtype`.

    The adapter of QLoRA is folded into the very weights it was trained beside: those that the 4-bit ones stand for.

    Args:
        checkpoint: What was learned, as the method saved it.
        base: Folder of the base model.
        method: The method's settings.
        dtype: Format of the merged weights.
        device: Where to.

    Raises:
        FineTuneError: T02 for a method that changes no weights.
    """
    if isinstance(method, Prefix | Prompt):
        raise FineTuneError(
            "T02",
            what="what this run learned cannot be folded into the weights",
            where=str(checkpoint),
            why="it stands before every row and changes no weight",
            fix="serve the adapter with PEFT on its base; or train with method.kind=lora",
        )
    if isinstance(method, Qlora):
        model = _on_dequantised(checkpoint, base, method, device=device)
    else:
        model = training_method(method).load(checkpoint, base, method, dtype="float32", device=device)
    if not isinstance(method, Full):
        model = _folded(model)
    return model.to(torch_dtype(dtype)).eval()


def _folded(model: Any) -> Any:
    """Fold an adapter into the weights; where output matrix and embedding were the same and part, each gets its own."""
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    inner = model.get_base_model()
    ends = [inner.get_input_embeddings(), inner.get_output_embeddings()]
    first, last = (end.get_base_layer() if isinstance(end, BaseTunerLayer) else end for end in ends)
    if last is not None and first.weight is last.weight and any(isinstance(end, BaseTunerLayer) for end in ends):
        last.weight = torch.nn.Parameter(last.weight.detach().clone(), requires_grad=False)
        inner.config.tie_word_embeddings = False
    return model.merge_and_unload()


def _on_dequantised(checkpoint: Path, base: Path, method: Qlora, *, device: str) -> Any:
    """Load the adapter beside the float32 weights that the 4-bit ones stand for.

    They go into a model as it was made, because GPT-2 keeps its matrices the other way round, and Falcon has layers of
    its own.
    """
    import torch
    from bitsandbytes.nn import Linear4bit
    from peft import PeftModel
    from transformers.pytorch_utils import Conv1D

    from finetune_exe.models.four_bit import whole_weight
    from finetune_exe.models.packed import Packed

    model = load_model(base, dtype="float32", device=device)
    with torch.no_grad():
        for name, layer in load_base(base, method, dtype="float32", device=device).named_modules():
            if isinstance(layer, Linear4bit):
                whole, own = whole_weight(layer), model.get_submodule(name)
                own.weight.copy_(whole.T if isinstance(own, Conv1D) else whole)
            elif isinstance(layer, Packed):
                for tensor in layer.packed:
                    model.get_submodule(name).get_parameter(tensor).copy_(layer.whole(tensor))
    make_room(model, token_numbers(base, method.trained_tokens))
    return PeftModel.from_pretrained(model, checkpoint)
