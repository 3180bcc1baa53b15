"""Where a model's layers end and its head begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def decoder_of(model: PreTrainedModel) -> Any:
    """Give the part of a causal language model that makes its last hidden states.

    Source: transformers 5.23 gives Llama 4 itself as its own decoder, whose layers lie in a model within it.
    """
    from transformers import PreTrainedModel

    found: Any = model.get_decoder()
    if found is not model:
        return found
    return next((child for child in model.children() if isinstance(child, PreTrainedModel)), model)
