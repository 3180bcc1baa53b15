"""Causal attention by PyTorch's fused kernels, for GPUs; what hides keys from queries, for all attention here.

Shapes: B batch, H query heads, K key heads, T positions, N queries, M keys, D width of a head.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.backends.cuda import SDPAParams, can_use_flash_attention
from torch.nn.attention.varlen import varlen_attn

from finetune_exe.models.layout import Layout, Span

LEAST_QUERIES = 256
"""Queries of a block under a narrow window: fewer would leave a GPU idle."""
LONG_ROW = 2048
"""Queries of a row from which on it is computed as fast by itself, for then a faster kernel takes it.

Source: benchmarks/gpu.md, on one H100."""
_GROUPED: dict[str, Any] = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
"""Says that there are fewer heads of keys than of queries; PyTorch 2.11 takes them without a word."""


def attend_by_kernels(
    query_BHTD: torch.Tensor,
    key_BKTD: torch.Tensor,
    value_BKTD: torch.Tensor,
    *,
    layout: Layout,
    window: int,
    scale: float,
) -> torch.Tensor:
    """Attend by PyTorch's kernels, such that none of them holds all scores of a row.

    Rows that are short are taken together by the one kernel that can; each other by itself. Then the kernels want as
    many queries as keys: those of a beginning that lies in earlier rows go along with the row's own, and what they read
    is dropped.
    """
    if _taken_together(query_BHTD, key_BKTD, value_BKTD, layout):
        return _together(query_BHTD, key_BKTD, value_BKTD, _where(layout, query_BHTD.device), window, scale)
    queries, keys, values = (_rows(x, layout) for x in (query_BHTD, key_BKTD, value_BKTD))
    parts = [
        _row(query, key, value, window, scale)[:, :, row.shared :]
        for query, key, value, row in zip(queries, keys, values, layout.all_rows, strict=True)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2)


def _taken_together(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout) -> bool:
    """Say whether there are several rows, most of them short, and one kernel for all of them."""
    num_rows = len(layout.all_rows)
    if num_rows == 1 or layout.starts[-1] >= LONG_ROW * num_rows:
        return False
    return can_use_flash_attention(SDPAParams(query, key, value, None, 0.0, True, query.shape[1] != key.shape[1]))


class _Where(NamedTuple):
    """Where rows begin and end, as the kernel for rows end to end wants to know it."""

    queries: torch.Tensor
    keys: torch.Tensor
    places: torch.Tensor | None
    """Of the keys of all rows; None where they lie there already, as none begins with what an earlier row has."""
    most_queries: int
    most_keys: int


@functools.lru_cache(maxsize=2)
def _where(layout: Layout, device: torch.device) -> _Where:
    """Describe rows to the kernel; all layers share it, and it is made of ordinary tensors where one only reads."""
    lengths = [row.length for row in layout.all_rows]
    with torch.inference_mode(False):
        queries = keys = torch.tensor(layout.starts, dtype=torch.int32, device=device)
        places = None
        if layout.num_shared:
            keys = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)
            places = torch.cat([torch.arange(*span) for spans in layout.spans for span in spans]).to(device)
    own = max(row.length - row.shared for row in layout.all_rows)
    return _Where(queries, keys, places, own, max(lengths))


def _together(
    query_BHTD: torch.Tensor, key_BKTD: torch.Tensor, value_BKTD: torch.Tensor, where: _Where, window: int, scale: float
) -> torch.Tensor:
    """Attend within all rows at once; what rows add to the gradient of keys that they share is summed in float32."""
    query, key, value = (x.squeeze(0).transpose(0, 1) for x in (query_BHTD, key_BKTD, value_BKTD))
    if where.places is not None:
        wide = torch.promote_types(key.dtype, torch.float32)
        key, value = (x.to(wide).index_select(0, where.places).to(x.dtype) for x in (key, value))
    before = window - 1 if window < where.most_keys else -1
    read: Any = varlen_attn(
        query, key, value, where.queries, where.keys, where.most_queries, where.most_keys, scale=scale,
        window_size=(before, 0), **_GROUPED,
    )  # fmt: skip
    return read.unsqueeze(0)


def _rows(whole_BHTD: torch.Tensor, layout: Layout) -> Sequence[torch.Tensor]:
    """Give what lies in each row, from its beginning."""
    if layout.num_shared:
        return [joined(whole_BHTD, spans, dim=2) for spans in layout.spans]
    return whole_BHTD.split([row.length for row in layout.all_rows], dim=2)  # its gradient is written once


def _row(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: int, scale: float) -> torch.Tensor:
    """Attend within one row; where it is longer than the window, in blocks of queries with the keys they may see."""
    length, size, parts = query.shape[2], max(window, LEAST_QUERIES), []
    if length <= window:
        return _kernel(query, key, value, scale)
    for start in range(0, length, size):
        stop, first = min(length, start + size), max(0, start - window)
        bias = _bias(stop - start, stop - first, window, query.dtype, query.device)
        parts.append(_kernel(query[:, :, start:stop], key[:, :, first:stop], value[:, :, first:stop], scale, bias))
    return torch.cat(parts, dim=2)


@functools.lru_cache(maxsize=4)
def _bias(num_queries: int, num_keys: int, window: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Give what hides keys from the last queries of a row when it is added to their scores: (N, M).

    All blocks and layers share it, for autograd keeps it; and it is an ordinary tensor even where one only reads.
    """
    with torch.inference_mode(False):
        hidden = hidden_keys(num_queries, num_keys, window, device)
        return torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, -torch.inf)


def _kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Attend by one of PyTorch's kernels.

    FlashAttention alone takes fewer heads of keys than of queries; where it cannot be had, as under a mask, in float32
    or on GPUs before Ampere, such heads would be computed with all scores in memory, unless the keys are repeated.
    """
    groups = query.shape[1] // key.shape[1]
    params = SDPAParams(query, key, value, bias, 0.0, bias is None, groups > 1)
    if groups > 1 and not can_use_flash_attention(params):
        key, value, groups = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1), 1
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=bias, is_causal=bias is None, scale=scale, enable_gqa=groups > 1
    )


def hidden_keys(num_queries: int, num_keys: int, window: int, device: torch.device) -> torch.Tensor:
    """Say of the last queries of a row and each key whether it is behind the query, or too far before it: (N, M)."""
    query_N1 = torch.arange(num_keys - num_queries, num_keys, device=device).unsqueeze(1)
    key_M = torch.arange(num_keys, device=device)
    return (key_M > query_N1) | (key_M <= query_N1 - window)


def joined(whole: torch.Tensor, spans: tuple[Span, ...], *, dim: int) -> torch.Tensor:
    """Give what lies in some spans, one after the other; where there is one, without copying it."""
    parts = [whole.narrow(dim, start, stop - start) for start, stop in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dim)
