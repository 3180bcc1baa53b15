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
    """One linear layer of a transformer block."""

    name: Target
    fan_in: int
    fan_out: int


def block_matrices(shape: ModelShape) -> tuple[Matrix, ...]:
    """List the linear layers of one block: query, key, value, output, then those of one MLP."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries = shape.num_attention_heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    return (
        Matrix(name="query", fan_in=hidden, fan_out=queries),
        Matrix(name="key", fan_in=hidden, fan_out=keys),
        Matrix(name="value", fan_in=hidden, fan_out=keys),
        Matrix(name="output", fan_in=queries, fan_out=hidden),
        *((Matrix(name="gate", fan_in=hidden, fan_out=inner),) if shape.gated_mlp else ()),
        Matrix(name="up", fan_in=hidden, fan_out=inner),
        Matrix(name="down", fan_in=inner, fan_out=hidden),
    )


def count_parameters(shape: ModelShape) -> int:
    """Count the weights: embeddings, separate output matrix, attention, MLPs, router, norms (two a block, one last).

    Biases, learned positions and further norms are not in the shape and not counted: up to 0.05 % in today's models,
    0.7 % in GPT-2.
    """
    return shape.num_layers * block_parameters(shape) + embedding_parameters(shape) + shape.hidden_size


def block_parameters(shape: ModelShape, *, active: bool = False) -> int:
    """Count the weights of one block; `active` counts only the experts that a token runs through."""
    matrices = [matrix.fan_in * matrix.fan_out for matrix in block_matrices(shape)]
    attention, expert = sum(matrices[:4]), sum(matrices[4:])
    experts = expert * (min(shape.experts_per_token, shape.num_experts) if active else shape.num_experts)
    shared = expert // shape.intermediate_size * shape.shared_intermediate_size
    router = shape.hidden_size * shape.num_experts if shape.num_experts > 1 else 0
    return attention + experts + shared + router + 2 * shape.hidden_size


def embedding_parameters(shape: ModelShape) -> int:
    """Count the weights of the embedding and of the output matrix, once where they are the same."""
    return shape.vocab_size * shape.hidden_size * (1 if shape.tied_embeddings else 2)


def count_lora_parameters(shape: ModelShape, *, rank: int, targets: Collection[Target] = ALL_LINEAR) -> int:
    """Count the weights of low-rank adapters on some linear layers, of every expert where there are several.

    A matrix of a inputs and b outputs gets rank * (a + b).

    Source: Hu et al. 2021, LoRA, section 4.1.
    """
    block = sum((matrix.fan_in + matrix.fan_out) * copies for matrix, copies in _targeted(shape, targets))
    head = shape.hidden_size + shape.vocab_size if "head" in targets else 0
    return rank * (shape.num_layers * block + head)


def count_targeted_parameters(shape: ModelShape, *, targets: Collection[Target]) -> int:
    """Count the weights of the linear layers that have adapters, the output matrix aside."""
    block = sum(matrix.fan_in * matrix.fan_out * copies for matrix, copies in _targeted(shape, targets))
    return shape.num_layers * block


def _targeted(shape: ModelShape, targets: Collection[Target]) -> Iterator[tuple[Matrix, int]]:
    """Give the matrices of one block that have adapters, each with how often it is there."""
    for matrix in block_matrices(shape):
        if matrix.name in targets:
            yield matrix, shape.num_experts if matrix.name in ("gate", "up", "down") else 1
