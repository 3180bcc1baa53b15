"""How many places in a row a model can tell apart: those with a learned vector for each have no more than that."""

from __future__ import annotations

from typing import Any

from finetune_exe.models.reading import beneath_adapter

_OFFSETS = range(3)
"""Rows that a table of positions may have besides those of the positions, as OPT's has."""


def position_limit(model: Any) -> int | None:
    """Give the longest row of a model that keeps a vector for each position, as GPT-2 does; None for any other.

    What is learned to stand before every row takes some of them, and is left out here.
    """
    from torch import nn

    inner = beneath_adapter(model)
    most = getattr(inner.config, "max_position_embeddings", None)
    if most is None:
        return None
    sizes = (most + offset for offset in _OFFSETS)
    tables = {module.num_embeddings for module in inner.modules()
              if isinstance(module, nn.Embedding) and module is not inner.get_input_embeddings()}  # fmt: skip
    return None if tables.isdisjoint(sizes) else int(most) - positions_before(model)


def positions_before(model: Any) -> int:
    """Count the positions that an adapter puts before every row."""
    adapter = model.active_peft_config if hasattr(model, "peft_config") else None
    return int(adapter.num_virtual_tokens) if adapter is not None and adapter.is_prompt_learning else 0
