"""What a model's configuration alone tells, before its weights are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetune_exe.errors import FineTuneError


def model_without_weights(folder: Path) -> Any:
    """Make the model that a folder describes, with the form of its weights and none of their numbers.

    Returns:
        None for a configuration that cannot be used; loading says why.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
    except (OSError, ValueError, KeyError, RuntimeError):
        return None


def require_keys_and_values(folder: Path) -> None:
    """Make sure that every layer of a model keeps keys and values.

    Raises:
        FineTuneError: T02 for state-space models, and those that mix attention with other ways to look back.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    model = model_without_weights(folder)
    if model is None:
        return
    layers = DynamicCache(config=model.config).layers
    if not model._is_stateful and all(isinstance(layer, DynamicLayer) for layer in layers):
        return
    raise FineTuneError(
        "T02",
        what=f"no prefix can be learned for models of type {model.config.model_type}",
        where="method.kind in the plan",
        why="some of its layers sum up in a state what they have read, and keep no keys and values to put before a row",
        fix="--set method.kind=lora, or prompt",
    )
