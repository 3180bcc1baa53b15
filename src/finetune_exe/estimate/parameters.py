"""How many weights a model has, and how many an adapter adds."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from finetune_exe.domain.values import ModelShape

Target = Literal["query", "key", "value", "output", "gate", "up", "down", "head"]
"""A linear layer by its part in the model; the head is the output matrix, one for all blocks."""
ALL_LINEAR: frozenset[Target] = frozenset({"query", "key", "value", "output", "gate", "up", "down"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """One linear layer, or one of an expert, and how often the model has it."""

    parts: frozenset[Target]
    """More than one where several projections are kept as one matrix; none in layers that look back by a state."""
    fan_in: int
    fan_out: int
    copies: int
    """Over all blocks."""
    active_copies: int
    """Of them, those that a token runs through."""
    stacked: bool = False
    """Whether the copies of a block are kept as one tensor of three dimensions, as experts are."""
    called: bool = True
    """Whether it is called, so that an adapter can go beside it."""

    def has_adapter(self, targets: Collection[Target]) -> bool:
        """Say whether it gets an adapter; one that is no part of attention or MLP where all linear layers do."""
        return self.called and (not self.parts.isdisjoint(targets) if self.parts else set(targets) >= ALL_LINEAR)

    @property
    def size(self) -> int:
        """Its weights."""
        return self.fan_in * self.fan_out


def matrices(shape: ModelShape, *, stacked_experts: bool = True) -> tuple[Matrix, ...]:
    """List the linear layers of all blocks: of what looks back, the MLPs or experts, and what stands beside experts.

    Args:
        shape: The model's dimensions.
        stacked_experts: Whether the experts of a block are one tensor, gate and up together, as transformers keeps
            them since version 5; otherwise each is a layer by itself.
    """
    layers, dense, experts = shape.num_mlp_layers, shape.dense_layers, shape.num_experts
    routed, together = layers - dense, "gate_up" in shape.fused
    visited = min(shape.experts_per_token, experts)
    several = experts > 1
    return (
        *(_attention(shape) if shape.num_attention_layers else ()),
        *_recurrent(shape),
        *_mlp(shape, shape.intermediate_size, together=stacked_experts if several else together,
              copies=routed * experts, active_copies=routed * visited, stacked=several and stacked_experts),
        *_mlp(shape, shape.shared_intermediate_size, together=together, copies=routed, active_copies=routed),
        *_mlp(shape, shape.dense_intermediate_size, together=together, copies=dense, active_copies=dense),
    )  # fmt: skip


def _attention(shape: ModelShape) -> Iterator[Matrix]:
    hidden, latent = shape.hidden_size, shape.latent_attention
    values = shape.num_attention_heads * shape.head_dim
    if latent is None:
        keys = shape.num_key_value_heads * shape.head_dim
        queries = 2 * values if shape.gated_attention else values
        widths: dict[Target, int] = {"query": queries, "key": keys, "value": keys}
        if "qkv" in shape.fused:
            yield _in_each_block(shape, *widths, fan_in=hidden, fan_out=sum(widths.values()))
        else:
            for part, width in widths.items():
                yield _in_each_block(shape, part, fan_in=hidden, fan_out=width)
    else:
        queries = shape.num_attention_heads * (latent.plain_head_dim + latent.rotary_head_dim)
        if latent.query_rank is not None:
            yield _in_each_block(shape, "query", fan_in=hidden, fan_out=latent.query_rank)
        yield _in_each_block(shape, "query", fan_in=latent.query_rank or hidden, fan_out=queries)
        narrow, plain = latent.key_value_rank, shape.num_attention_heads * latent.plain_head_dim
        yield _in_each_block(shape, "key", "value", fan_in=hidden, fan_out=narrow + latent.rotary_head_dim)
        yield _in_each_block(shape, "key", "value", fan_in=narrow, fan_out=plain + values)
    yield _in_each_block(shape, "output", fan_in=values, fan_out=hidden)


def _in_each_block(shape: ModelShape, *parts: Target, fan_in: int, fan_out: int) -> Matrix:
    layers = shape.num_attention_layers
    return Matrix(parts=frozenset(parts), fan_in=fan_in, fan_out=fan_out, copies=layers, active_copies=layers)


def _recurrent(shape: ModelShape) -> Iterator[Matrix]:
    if shape.recurrence is None:
        return
    layers = shape.recurrence.layers
    for linear in shape.recurrence.linear:
        yield Matrix(parts=frozenset(), fan_in=linear.fan_in, fan_out=linear.fan_out, copies=layers,
                     active_copies=layers, called=linear.called)  # fmt: skip


def _mlp(
    shape: ModelShape, inner: int, *, together: bool, copies: int, active_copies: int, stacked: bool = False
) -> Iterator[Matrix]:
    """List the matrices of one MLP, of width `inner`; none where there is none."""
    if not inner or not copies:
        return
    into: tuple[tuple[Target, ...], ...] = (("up",),)
    if shape.gated_mlp:
        into = (("gate", "up"),) if together else (("gate",), ("up",))
    for parts in into:
        yield Matrix(parts=frozenset(parts), fan_in=shape.hidden_size, fan_out=inner * len(parts),
                     copies=copies, active_copies=active_copies, stacked=stacked)  # fmt: skip
    yield Matrix(parts=frozenset({"down"}), fan_in=inner, fan_out=shape.hidden_size,
                 copies=copies, active_copies=active_copies, stacked=stacked)  # fmt: skip


def count_parameters(shape: ModelShape) -> int:
    """Count the weights: embeddings, separate output matrix, attention, MLPs, router, norms (two a block, one last).

    Biases, learned positions and further norms are not in most shapes and not counted then: up to 0.05 % in today's
    models, 0.7 % in GPT-2.
    """
    return _weights_of_blocks(shape) + embedding_parameters(shape) + shape.hidden_size


def block_parameters(shape: ModelShape, *, active: bool = False) -> int:
    """Count the weights of one block, the mean of all; `active` counts only the experts that a token runs through."""
    return _weights_of_blocks(shape, active=active) // shape.num_layers


def _weights_of_blocks(shape: ModelShape, *, active: bool = False) -> int:
    linear = sum(m.size * (m.active_copies if active else m.copies) for m in matrices(shape))
    routers = (shape.num_mlp_layers - shape.dense_layers) * (shape.num_experts if shape.num_experts > 1 else 0)
    return linear + shape.hidden_size * (routers + shape.num_norms) + shape.other_parameters


def embedding_parameters(shape: ModelShape) -> int:
    """Count the weights of the embedding and of the output matrix, once where they are the same."""
    return shape.vocab_size * shape.hidden_size * (1 if shape.tied_embeddings else 2)


def count_lora_parameters(
    shape: ModelShape, *, rank: int, targets: Collection[Target] = ALL_LINEAR, stacked_experts: bool = True
) -> int:
    """Count the weights of low-rank adapters on some linear layers, of every expert where there are several.

    A matrix of a inputs and b outputs gets rank * (a + b); a router gets none.

    Args:
        shape: The model's dimensions.
        rank: Width of the two factors.
        targets: Layers with an adapter; one kept together with others has it where any of them is named.
        stacked_experts: See `matrices`.

    Source: Hu et al. 2021, LoRA, section 4.1.
    """
    blocks = sum(
        (matrix.fan_in + matrix.fan_out) * matrix.copies
        for matrix in matrices(shape, stacked_experts=stacked_experts)
        if matrix.has_adapter(targets)
    )
    return rank * (blocks + (shape.hidden_size + shape.vocab_size if "head" in targets else 0))


def count_targeted_parameters(shape: ModelShape, *, targets: Collection[Target]) -> int:
    """Count the weights of the linear layers that have adapters, the output matrix aside."""
    return sum(m.size * m.copies for m in matrices(shape) if m.has_adapter(targets))


def count_uncalled_parameters(shape: ModelShape) -> int:
    """Count the weights of linear layers that are used without being called, which QLoRA keeps in 16 bit."""
    return sum(m.size * m.copies for m in matrices(shape) if not m.called)


def count_adapted_experts(shape: ModelShape, *, targets: Collection[Target]) -> int:
    """Count the weights of the experts that have adapters."""
    return sum(m.size * m.copies for m in matrices(shape) if m.stacked and m.has_adapter(targets))
