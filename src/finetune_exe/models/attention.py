"""Causal attention of each row by itself: rows may lie end to end, and nothing that a mask would hide is computed.

Shapes: B batch, H query heads, K key heads, P = B * K, G query heads a key head, T positions, N queries of a block, M
keys that they see, D width of a head.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from finetune_exe.models.factors import computed_in
from finetune_exe.models.fused_attention import attend_by_kernels, hidden_keys, joined
from finetune_exe.models.layout import Layout, Row, Span, cut

NOT_DONE = ("softcap", "s_aux", "position_bias")
"""What some layers ask for besides: scores that are capped, that share with a sink, or that are shifted."""
BLOCK_QUERIES = 256
"""Queries computed at once on a processor: of the keys behind the last of them none is multiplied."""


class _Block(NamedTuple):
    """Queries [start, stop) of one row, and the keys that any of them sees."""

    start: int
    stop: int
    keys: tuple[Span, ...]
    """Where they lie, in the order of their positions; the row's own are the last, the others lie in earlier rows."""

    @property
    def num_queries(self) -> int:
        """How many they are."""
        return self.stop - self.start

    @property
    def num_keys(self) -> int:
        """How many keys any of them sees; the last stands where the last query does."""
        return sum(stop - start for start, stop in self.keys)

    def seen(self, all_PTD: torch.Tensor) -> torch.Tensor:
        """Give the keys, or values, that any of them sees: (P, M, D)."""
        return joined(all_PTD, self.keys, dim=1)


def register_row_attention(name: str) -> None:
    """Make `row_attention` known to transformers under a name."""
    AttentionInterface.register(name, row_attention)
    AttentionMaskInterface.register(name, _mask_unless_causal)


_noted: tuple[set[int | None], set[int | None]] | None = None
"""Windows that masks were asked for with, and windows that layers asked for, while somebody wants to know."""


@contextmanager
def windows_agree() -> Iterator[Callable[[], bool]]:
    """Watch a forward pass; what is given says afterwards whether the layers named every window of the masks.

    Rows shorter than a window, on which a model can be tried quickly, do not show it. Chunks, within which Llama 4
    attends, are windows of masks that no layer names.
    """
    global _noted
    noted: tuple[set[int | None], set[int | None]] = (set(), set())
    _noted = noted
    try:
        yield lambda: noted[0] - {None} <= noted[1]
    finally:
        _noted = None


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
    row_layout: Layout | None = None,
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
        row_layout: How rows lie end to end in one; None where each is a row of the batch.
        rest: What else the layer says.

    Returns:
        What was read, as (B, T, H, D), and no weights.

    Raises:
        NotImplementedError: Where the layer asks for what is not done here, however little it may change.
    """
    asked = [name for name in NOT_DONE if rest.get(name) is not None]
    if asked or rest.get("is_causal") is False:
        raise NotImplementedError(", ".join(asked) or "attention that is not causal")
    if _noted is not None:
        _noted[1].add(sliding_window)
    length = query_BHTD.shape[2]
    layout, window = row_layout or Layout((Row(length),)), sliding_window or length
    only_causal = attention_mask is None and key_BKTD.shape[2] == length
    assert only_causal or row_layout is None, "rows that lie end to end have neither mask nor cache"
    if dropout or not only_causal:
        seen = _seen(layout, window, query_BHTD.device) if only_causal else attention_mask
        return sdpa_attention_forward(
            module, query_BHTD, key_BKTD, value_BKTD, seen, dropout=dropout, scaling=scaling,
            sliding_window=sliding_window, **rest,
        )  # fmt: skip
    scale = query_BHTD.shape[-1] ** -0.5 if scaling is None else scaling
    dtype = computed_in(query_BHTD)
    query_BHTD, key_BKTD, value_BKTD = query_BHTD.to(dtype), key_BKTD.to(dtype), value_BKTD.to(dtype)
    if query_BHTD.device.type != "cpu":
        return attend_by_kernels(query_BHTD, key_BKTD, value_BKTD, layout=layout, window=window, scale=scale), None
    return _WrittenOut.apply(query_BHTD, key_BKTD, value_BKTD, tuple(_blocks(layout, window)), window, scale), None


def _mask_unless_causal(*, q_length: int, kv_length: int, attention_mask: torch.Tensor | None, **rest: Any) -> Any:
    """Make transformers' mask, but none where `row_attention` knows what is hidden."""
    if _noted is not None:
        _noted[0].add(rest.get("local_size"))
    if attention_mask is None and q_length == kv_length:
        return None
    return sdpa_mask(q_length=q_length, kv_length=kv_length, attention_mask=attention_mask, **rest)


@functools.lru_cache(maxsize=2)  # of layers with a window and without
def _seen(layout: Layout, window: int, device: torch.device) -> torch.Tensor:
    """Say of each query and key of rows end to end whether the query sees the key: (1, 1, T, T)."""
    length = layout.starts[-1]
    seen_TT = torch.zeros(length, length, dtype=torch.bool, device=device)
    for spans in layout.spans:
        own = slice(*spans[-1])
        places = torch.cat([torch.arange(*span, device=device) for span in spans])
        seen_TT[own, places] = ~hidden_keys(own.stop - own.start, len(places), window, device)
    return seen_TT[None, None]


def _blocks(layout: Layout, window: int) -> Iterator[_Block]:
    """Cut rows that lie end to end into blocks of queries."""
    for spans in layout.spans:
        own, end = spans[-1]
        shared = sum(stop - start for start, stop in spans[:-1])
        for start in range(own, end, BLOCK_QUERIES):
            stop = min(end, start + BLOCK_QUERIES)
            oldest = max(0, shared + start - own - window + 1)
            yield _Block(start, stop, cut(spans, oldest, shared + stop - own))


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
        read_PTGD = query_PTGD.new_empty(*query_PTGD.shape[:-1], value_PTD.shape[-1])  # DeepSeek's are narrower
        for block in blocks:
            weights, *_ = _weights(query_PTGD, key_PTD, block, window=window, scale=scale)
            read = torch.bmm(weights, block.seen(value_PTD))
            read_PTGD[:, block.start : block.stop] = read.unflatten(1, (block.num_queries, -1))
        return _by_position(read_PTGD, batch)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTHD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Compute the gradients of queries, keys and values."""
        query_PTGD, key_PTD, value_PTD = ctx.saved_tensors
        grad_PTGD = _by_key(grad_BTHD.transpose(1, 2), len(key_PTD) // ctx.batch)
        for_query = torch.empty_like(query_PTGD)
        for_key, for_value = (_Slopes(x, ctx.blocks) for x in (key_PTD, value_PTD))
        for block in ctx.blocks:
            rows = slice(block.start, block.stop)
            weights, query, key = _weights(query_PTGD, key_PTD, block, window=ctx.window, scale=ctx.scale)
            grad = grad_PTGD[:, rows].flatten(1, 2)
            for_value.add(block, weights.transpose(1, 2), grad)
            for_scores = torch.ops.aten._softmax_backward_data(
                torch.bmm(grad, block.seen(value_PTD).transpose(1, 2)), weights, -1, weights.dtype
            ).mul_(ctx.scale)
            for_query[:, rows] = torch.bmm(for_scores, key).unflatten(1, (block.num_queries, -1))
            for_key.add(block, for_scores.transpose(1, 2), query)
        slopes = (for_query, for_key.total().unsqueeze(2), for_value.total().unsqueeze(2))
        return *(_by_position(x, ctx.batch).transpose(1, 2) for x in slopes), None, None, None


def _weights(
    query_PTGD: torch.Tensor, key_PTD: torch.Tensor, block: _Block, *, window: int, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute what each query of a block gives to each key, as (P, N * G, M); give these queries and keys as well."""
    query, key = query_PTGD[:, block.start : block.stop].flatten(1, 2), block.seen(key_PTD)
    scores = torch.bmm(query, key.transpose(1, 2)).mul_(scale)
    scores_PNGM = scores.unflatten(1, (block.num_queries, -1))
    if block.num_keys > window:
        hidden = hidden_keys(block.num_queries, block.num_keys, window, scores.device)
        scores_PNGM.masked_fill_(hidden.unsqueeze(1), -torch.inf)
    else:  # only keys within the block can lie behind a query
        scores_PNGM[..., block.num_keys - block.num_queries :].masked_fill_(_behind(block.num_queries), -torch.inf)
    return torch.softmax(scores, dim=-1), query, key


class _Slopes:
    """The gradient of keys or values; what other rows add to a row's is summed up in float32, for they may be many."""

    def __init__(self, like_PTD: torch.Tensor, blocks: tuple[_Block, ...]) -> None:
        self._own_PTD = torch.zeros_like(like_PTD)
        shares = any(len(block.keys) > 1 for block in blocks)
        wide = torch.promote_types(like_PTD.dtype, torch.float32)
        self._others_PTD = torch.zeros_like(like_PTD, dtype=wide) if shares else None

    def add(self, block: _Block, left_PMN: torch.Tensor, right_PND: torch.Tensor) -> None:
        """Add the products of a block to what there is for the keys that it sees."""
        *others, own = block.keys
        before = own.start - own.stop
        self._own_PTD[:, own.start : own.stop].baddbmm_(left_PMN[:, before:], right_PND)
        if self._others_PTD is not None and others:
            products, at = torch.bmm(left_PMN[:, :before], right_PND), 0
            for start, stop in others:
                self._others_PTD[:, start:stop].add_(products[:, at : at + stop - start])
                at += stop - start

    def total(self) -> torch.Tensor:
        """Give what all blocks have added."""
        return self._own_PTD if self._others_PTD is None else self._own_PTD.add_(self._others_PTD)


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
