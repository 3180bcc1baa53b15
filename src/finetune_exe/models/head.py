"""What stands between a model's last hidden states and its logits."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from finetune_exe.models.decoder import decoder_of
from finetune_exe.models.reading import beneath_adapter, reading


def head_is_plain(model: Any, computed: AbstractContextManager[Any]) -> bool:
    """Say whether logits are the output matrix times the last hidden states and nothing else, such as scaled or capped.

    It is measured on eight tokens, not looked up.

    Args:
        model: With an adapter or without.
        computed: Number format that the model computes in, as a context.
    """
    import torch

    inner = beneath_adapter(model)
    head = inner.get_output_embeddings()
    if head is None:
        return False
    ids = torch.arange(1, 9, device=next(inner.parameters()).device).unsqueeze(0)
    with reading(model), computed:
        own = inner(input_ids=ids, use_cache=False).logits.float()
        plain = head(decoder_of(inner)(input_ids=ids, use_cache=False).last_hidden_state).float()
    is_finite = bool(torch.isfinite(own).all())
    return is_finite and bool(torch.allclose(own, plain, rtol=0.0, atol=1e-5 * float(own.abs().max())))
