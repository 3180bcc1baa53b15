"""Rows that lie end to end in one: how a model is told, and proof that it keeps them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from finetune_exe.errors import FineTuneError
from finetune_exe.models.decoder import decoder_of
from finetune_exe.models.layout import Layout, Row
from finetune_exe.models.reading import reading

if TYPE_CHECKING:
    import torch

ROW_ATTENTION = "finetune_exe_rows"
"""Name under which transformers knows `finetune_exe.models.attention.row_attention`."""
Arrangement = Literal["side by side", "end to end", "beginning once"]
"""How the rows of a pass become one batch: padded, packed, or packed with what several begin with computed once."""
APART = Layout((Row(13), Row(11), Row(9)))
ALIKE = Layout((Row(13), Row(11, shared=4), Row(9, shared=6)))
"""The rows that a model is tried on; the last finds its beginning in both of the others."""
TOLERANCE = {"float32": (1e-5, 1e-4), "float16": (2e-3, 1e-2), "bfloat16": (1e-2, 5e-2)}
"""By number format: how much of the largest number a row may change with another row, and with being packed at all.

A row that sees another changes by a tenth and more; rounding in a different order is all that may be left."""


def packing_inputs(layout: Layout, model: Any) -> dict[str, Any]:
    """Give what a decoder must be told of packed rows.

    Those are positions that begin anew with each row; transformers makes masks of them for its own attention, while
    ours wants to know the layout.
    """
    import torch

    assert not layout.num_shared or _is_ours(model), (
        "no other attention lets rows see what lies before the first of them"
    )
    positions = torch.tensor([layout.positions], device=model.device)
    return {"position_ids": positions, **({"row_layout": layout} if _is_ours(model) else {})}


def _is_ours(model: Any) -> bool:
    """Say whether a model attends by `row_attention`."""
    return bool(model.config._attn_implementation == ROW_ATTENTION)


def use_row_attention(model: Any, *, packing: bool = False) -> bool:
    """Let a model attend by `row_attention` if it then computes what it computed before; say whether it does.

    It does not for layers that hide more than causality and a window hide, that cap their scores or attend elsewhere;
    nor, where rows are to be packed, for layers that do not hand on how these lie.
    """
    import torch

    from finetune_exe.models.attention import register_row_attention, windows_agree

    register_row_attention(ROW_ATTENTION)
    usual = model.config._attn_implementation
    row_T = _rows(model, APART)[0]
    before = _hidden(model, row_T)
    model.set_attn_implementation(ROW_ATTENTION)
    _, close = TOLERANCE[str(before.dtype).removeprefix("torch.")]
    try:
        with windows_agree() as agree:
            after = _hidden(model, row_T)
    except NotImplementedError:
        after = torch.full_like(before, torch.nan)
    unchanged = bool(torch.isfinite(after).all()) and _apart(after, before) <= close and agree()
    if unchanged and (not packing or not _is_ours(model) or _keeps_apart(model, APART)):
        return True
    model.set_attn_implementation(usual)
    return False


def require_packing(model: Any) -> Arrangement:
    """Make sure that packed rows are computed as they are alone, by trying it; say how closely they may be packed.

    Args:
        model: A causal language model without adapters.

    Returns:
        Whether what several rows begin with can be computed once, or the rows are only to lie end to end.

    Raises:
        FineTuneError: T02 where a row sees another or depends on where it lies.
    """
    if _keeps_apart(model, APART):
        return "beginning once" if _is_ours(model) and _keeps_apart(model, ALIKE) else "end to end"
    raise FineTuneError(
        "T02",
        what="rows cannot be packed with this model: it lets them see each other, or depends on where they lie",
        where="batch.packing in the plan",
        why="the model would learn answers from the rows before them; tried on three short rows before training",
        fix="--set batch.packing=false --set batch.group_by_length=true",
    )


def _keeps_apart(model: Any, layout: Layout) -> bool:
    """Say whether packed rows come out as alone, and the middle one the same with others around it."""
    import torch

    rows = _rows(model, layout)
    own = [ids[row.shared :] for ids, row in zip(rows, layout.rows, strict=True)]
    alone = torch.cat([_hidden(model, ids)[row.shared :] for ids, row in zip(rows, layout.rows, strict=True)])
    inputs = packing_inputs(layout, model)
    packed = _hidden(model, torch.cat(own), **inputs)
    seen = layout.rows[1].shared
    others = _hidden(model, torch.cat([own[0][:seen], own[0][seen:].flip(0), own[1], own[2].flip(0)]), **inputs)
    exact, close = TOLERANCE[str(packed.dtype).removeprefix("torch.")]
    kept = slice(*layout.starts[1:3])
    return _apart(packed[kept], others[kept]) <= exact and _apart(packed, alone) <= close


def _rows(model: Any, layout: Layout) -> list[torch.Tensor]:
    """Make rows of different tokens, all of them common ones, that begin as the layout says."""
    import torch

    vocabulary = model.get_input_embeddings().weight.shape[0]
    lengths = [row.length for row in layout.rows]
    ids = (torch.arange(sum(lengths)) * 37 + 11) % min(vocabulary, 1000)
    rows: list[torch.Tensor] = []
    for row, row_T in zip(layout.rows, ids.to(model.device).split(lengths), strict=True):
        rows.append(torch.cat([rows[-1][: row.shared], row_T[row.shared :]]) if row.shared else row_T)
    return rows


def _hidden(model: Any, row_T: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """Compute the last hidden states of one row, without dropout and gradients."""
    with reading(model):
        hidden_BTH = decoder_of(model)(input_ids=row_T.unsqueeze(0), use_cache=False, **inputs).last_hidden_state
    return hidden_BTH[0]


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Give the largest difference over the largest number."""
    return float((one - other).abs().max() / other.abs().max())
