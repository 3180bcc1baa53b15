"""Causal attention of each row by itself: rows may lie end to end, and nothing that a mask would hide is computed.

Shapes: B batch, H query heads, K key heads, P = B * K, G query heads a key head, T positions, N queries of a block, M
keys that they see, D width of a head.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

BLOCK_QUERIES = 256
"""Queries computed at once on a processor: of the keys behind the last of them none is multiplied."""


class _Block(NamedTuple):
    """Queries [start, stop) of one row, and the first key that any of them sees."""

    start: int
    stop: int
    first_key: int

    @property
    def num_queries(self) -> int:
        """How many they are."""
        return self.stop - self.start


def register_row_attention(name: str) -> None:
    """Make `row_attention` known to transformers under a name."""
    AttentionInterface.register(name, row_attention)
    AttentionMaskInterface.register(name, _mask_unless_causal)


def row_attention(
    module: torch.nn.Module,
    query_BHTD: torch.Tensor,
    key_BKTD: torch.Tensor,
    value_BKTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    row_lengths: Sequence[int] | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers' layers ask for; with a mask, a cache or dropout as its own fused attention does.

    Args:
        module: The layer that attends.
        query_BHTD: Queries.
        key_BKTD: Keys.
        value_BKTD: Values.
        attention_mask: Not None where more is hidden than causality and the window hide.
        dropout: Share of the weights set to zero.
        scaling: Factor of the scores; None takes one over the root of D.
        sliding_window: Each query sees so many keys, its own the last; None lets it see all before it.
        row_lengths: Positions of each row where rows lie end to end in one; None where each is a row of the batch.
        rest: What else the layer says.

    Returns:
        What was read, as (B, T, H, D), and no weights.
    """
    if attention_mask is not None or dropout or query_BHTD.shape[2] != key_BKTD.shape[2]:
        assert row_lengths is None, "rows that lie end to end have neither mask nor cache nor dropout"
        return sdpa_attention_forward(
            module, query_BHTD, key_BKTD, value_BKTD, attention_mask, dropout=dropout, scaling=scaling,
            sliding_window=sliding_window, **rest,
        )  # fmt: skip
    scale = query_BHTD.shape[-1] ** -0.5 if scaling is None else scaling
    lengths = row_lengths or (query_BHTD.shape[2],)
    window = sliding_window or query_BHTD.shape[2]
    if query_BHTD.device.type != "cpu":
        return _fused(query_BHTD, key_BKTD, value_BKTD, lengths=lengths, window=window, scale=scale), None
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query_BHTD, key_BKTD, value_BKTD = query_BHTD.to(dtype), key_BKTD.to(dtype), value_BKTD.to(dtype)
    return _WrittenOut.apply(query_BHTD, key_BKTD, value_BKTD, tuple(_blocks(lengths, window)), window, scale), None


def _mask_unless_causal(*, q_length: int, kv_length: int, attention_mask: torch.Tensor | None, **rest: Any) -> Any:
    """Make transformers' mask, but none where `row_attention` knows what is hidden."""
    if attention_mask is None and q_length == kv_length:
        return None
    return sdpa_mask(q_length=q_length, kv_length=kv_length, attention_mask=attention_mask, **rest)


def _fused(
    query_BHTD: torch.Tensor,
    key_BKTD: torch.Tensor,
    value_BKTD: torch.Tensor,
    *,
    lengths: Sequence[int],
    window: int,
    scale: float,
) -> torch.Tensor:
    """Attend by PyTorch's kernels, row by row."""
    grouped = query_BHTD.shape[1] != key_BKTD.shape[1]
    parts = []
    for query, key, value in zip(*(x.split(list(lengths), dim=2) for x in (query_BHTD, key_BKTD, value_BKTD)),
                                 strict=True):  # fmt: skip
        length = query.shape[2]
        seen = None if length <= window else ~_hidden(_Block(0, length, 0), window, query.device)
        parts.append(
            torch.nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=seen, is_causal=seen is None, scale=scale, enable_gqa=grouped
            )
        )
    return torch.cat(parts, dim=2).transpose(1, 2)


def _blocks(lengths: Sequence[int], window: int) -> Iterator[_Block]:
    """Cut rows that lie end to end into blocks of queries."""
    for begin, end in itertools.pairwise(itertools.accumulate(lengths, initial=0)):
        for start in range(begin, end, BLOCK_QUERIES):
            yield _Block(start, min(end, start + BLOCK_QUERIES), max(begin, start - window + 1))


def _hidden(block: _Block, window: int, device: torch.device) -> torch.Tensor:
    """Say of each query and key of a block whether the key is behind the query, or too far before it."""
    query_N = torch.arange(block.start, block.stop, device=device).unsqueeze(1)
    key_M = torch.arange(block.first_key, block.stop, device=device)
    return (key_M > query_N) | (key_M <= query_N - window)


class _WrittenOut(torch.autograd.Function):
    """Attention as matrix products, block by block; the weights are computed again for the gradient.

    PyTorch's fused kernel for processors takes about twice as long for rows of some hundred positions, most of it for
    the gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query_BHTD: torch.Tensor,
        key_BKTD: torch.Tensor,
        value_BKTD: torch.Tensor,
        blocks: tuple[_Block, ...],
        window: int,
        scale: float,
    ) -> torch.Tensor:
        """Compute (B, T, H, D)."""
        batch, num_keys = key_BKTD.shape[:2]
        query_PTGD = _by_key(query_BHTD, num_keys)
        key_PTD, value_PTD = (x.flatten(0, 1).contiguous() for x in (key_BKTD, value_BKTD))
        ctx.save_for_backward(query_PTGD, key_PTD, value_PTD)
        ctx.blocks, ctx.window, ctx.scale, ctx.batch = blocks, window, scale, batch
        read_PTGD = torch.empty_like(query_PTGD)
        for block in blocks:
            weights, _ = _weights(query_PTGD, key_PTD, block, window=window, scale=scale)
            read = torch.bmm(weights, value_PTD[:, block.first_key : block.stop])
            read_PTGD[:, block.start : block.stop] = read.unflatten(1, (block.num_queries, -1))
        return _by_position(read_PTGD, batch)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTHD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Compute the gradients of queries, keys and values."""
        query_PTGD, key_PTD, value_PTD = ctx.saved_tensors
        grad_PTGD = _by_key(grad_BTHD.transpose(1, 2), len(key_PTD) // ctx.batch)
        for_query, for_key, for_value = (
            torch.empty_like(query_PTGD),
            torch.zeros_like(key_PTD),
            torch.zeros_like(key_PTD),
        )
        for block in ctx.blocks:
            rows, keys = slice(block.start, block.stop), slice(block.first_key, block.stop)
            weights, query = _weights(query_PTGD, key_PTD, block, window=ctx.window, scale=ctx.scale)
            grad = grad_PTGD[:, rows].flatten(1, 2)
            for_value[:, keys].baddbmm_(weights.transpose(1, 2), grad)
            for_scores = torch.ops.aten._softmax_backward_data(
                torch.bmm(grad, value_PTD[:, keys].transpose(1, 2)), weights, -1, weights.dtype
            ).mul_(ctx.scale)
            for_query[:, rows] = torch.bmm(for_scores, key_PTD[:, keys]).unflatten(1, (block.num_queries, -1))
            for_key[:, keys].baddbmm_(for_scores.transpose(1, 2), query)
        key, value = (x.unsqueeze(2) for x in (for_key, for_value))
        return *(_by_position(x, ctx.batch).transpose(1, 2) for x in (for_query, key, value)), None, None, None


def _weights(
    query_PTGD: torch.Tensor, key_PTD: torch.Tensor, block: _Block, *, window: int, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute what each query of a block gives to each key, as (P, N * G, M), and give the queries as (P, N * G, D)."""
    query = query_PTGD[:, block.start : block.stop].flatten(1, 2)
    scores = torch.bmm(query, key_PTD[:, block.first_key : block.stop].transpose(1, 2)).mul_(scale)
    scores_PNGM = scores.unflatten(1, (block.num_queries, -1))
    if block.stop - block.first_key > window:
        scores_PNGM.masked_fill_(_hidden(block, window, scores.device).unsqueeze(1), -torch.inf)
    else:  # only keys within the block can lie behind a query
        scores_PNGM[..., block.start - block.first_key :].masked_fill_(_behind(block.num_queries), -torch.inf)
    return torch.softmax(scores, dim=-1), query


@functools.lru_cache(maxsize=BLOCK_QUERIES)
def _behind(num_queries: int) -> torch.Tensor:
    """Say of each query of a block, and each key of the same, whether the key is behind it: (N, 1, N)."""
    return torch.ones(num_queries, num_queries, dtype=torch.bool).triu(1).unsqueeze(1)


def _by_key(heads_BHTD: torch.Tensor, num_keys: int) -> torch.Tensor:
    """Put the query heads of each key head next to each other, for each position: (P, T, G, D)."""
    return heads_BHTD.unflatten(1, (num_keys, -1)).transpose(2, 3).flatten(0, 1).contiguous()


def _by_position(heads_PTGD: torch.Tensor, batch: int) -> torch.Tensor:
    """Put all heads of a position next to each other, as linear layers write them: (B, T, H, D)."""
    return heads_PTGD.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3)
