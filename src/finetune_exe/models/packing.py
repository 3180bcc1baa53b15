"""Rows that lie end to end in one: how a model is told, and proof that it keeps them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from finetune_exe.errors import FineTuneError

if TYPE_CHECKING:
    import torch

ROW_ATTENTION = "finetune_exe_rows"
"""Name under which transformers knows `finetune_exe.models.attention.row_attention`."""
LENGTHS = (13, 11, 6)
"""Tokens of the rows that a model is tried on."""
TOLERANCE = {"float32": (1e-5, 1e-4), "float16": (2e-3, 1e-2), "bfloat16": (1e-2, 5e-2)}
"""By number format: how much of the largest number a row may change with another row, and with being packed at all.

A row that sees another changes by a tenth and more; rounding in a different order is all that may be left."""


def packing_inputs(lengths: Sequence[int], model: Any) -> dict[str, Any]:
    """Give what a decoder must be told of packed rows.

    Those are positions that begin anew with each row; transformers makes masks of them for its own attention, while
    ours wants to know the lengths.
    """
    import torch

    positions = torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0).to(model.device)
    ours = model.config._attn_implementation == ROW_ATTENTION
    return {"position_ids": positions, **({"row_lengths": tuple(lengths)} if ours else {})}


def use_row_attention(model: Any) -> bool:
    """Let a model attend by `row_attention` if it then computes what it computed before; say whether it does.

    It does not for layers that hide more than causality and a window hide, that cap their scores or attend elsewhere.
    """
    import torch

    from finetune_exe.models.attention import register_row_attention

    register_row_attention(ROW_ATTENTION)
    usual = model.config._attn_implementation
    row_T = _rows(model)[0]
    before = _hidden(model, row_T)
    model.set_attn_implementation(ROW_ATTENTION)
    _, close = TOLERANCE[str(before.dtype).removeprefix("torch.")]
    after = _hidden(model, row_T)
    if bool(torch.isfinite(after).all()) and _apart(after, before) <= close:
        return True
    model.set_attn_implementation(usual)
    return False


def require_packing(model: Any) -> None:
    """Make sure that packed rows are computed as they are alone, by trying it.

    Args:
        model: A causal language model without adapters.

    Raises:
        FineTuneError: T02 where a row sees another or depends on where it lies.
    """
    import torch

    rows = _rows(model)
    inputs = packing_inputs(LENGTHS, model)
    packed = _hidden(model, torch.cat(rows), **inputs)
    others = _hidden(model, torch.cat([rows[0].flip(0), rows[1], rows[2].flip(0)]), **inputs)
    exact, close = TOLERANCE[str(packed.dtype).removeprefix("torch.")]
    middle = slice(LENGTHS[0], LENGTHS[0] + LENGTHS[1])
    alone = torch.cat([_hidden(model, row) for row in rows])
    if _apart(packed[middle], others[middle]) <= exact and _apart(packed, alone) <= close:
        return
    raise FineTuneError(
        "T02",
        what="rows cannot be packed with this model: it lets them see each other, or depends on where they lie",
        where="batch.packing in the plan",
        why="the model would learn answers from the rows before them; tried on three short rows before training",
        fix="--set batch.packing=false --set batch.group_by_length=true",
    )


def _rows(model: Any) -> list[torch.Tensor]:
    """Make three rows of different tokens, all of them common ones."""
    import torch

    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = (torch.arange(sum(LENGTHS)) * 37 + 11) % min(vocabulary, 1000)
    return list(ids.to(model.device).split(LENGTHS))


def _hidden(model: Any, row_T: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """Compute the last hidden states of one row, without dropout and gradients."""
    import torch

    training = model.training
    model.eval()
    with torch.no_grad():
        hidden_BTH = model.get_decoder()(input_ids=row_T.unsqueeze(0), use_cache=False, **inputs).last_hidden_state
    model.train(training)
    return hidden_BTH[0]


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Give the largest difference over the largest number."""
    return float((one - other).abs().max() / other.abs().max())
