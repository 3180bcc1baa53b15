"""How many weights a model has, and how many an adapter adds."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_exe.domain.values import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """One linear layer of a transformer block."""

    fan_in: int
    fan_out: int


def block_matrices(shape: ModelShape) -> tuple[Matrix, ...]:
    """List the linear layers of one block: query, key, value, output, then those of one MLP."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries = shape.num_attention_heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    into = Matrix(fan_in=hidden, fan_out=inner)
    return (
        Matrix(fan_in=hidden, fan_out=queries),
        Matrix(fan_in=hidden, fan_out=keys),
        Matrix(fan_in=hidden, fan_out=keys),
        Matrix(fan_in=queries, fan_out=hidden),
        *((into, into) if shape.gated_mlp else (into,)),
        Matrix(fan_in=inner, fan_out=hidden),
    )


def count_parameters(shape: ModelShape) -> int:
    """Count the weights: embeddings, separate output matrix, attention, MLPs, router, norms (two a block, one last).

    Biases, learned positions and further norms are not in the shape and not counted: up to 0.05 % in today's models,
    0.7 % in GPT-2.
    """
    matrices = [matrix.fan_in * matrix.fan_out for matrix in block_matrices(shape)]
    router = shape.hidden_size * shape.num_experts if shape.num_experts > 1 else 0
    block = sum(matrices[:4]) + sum(matrices[4:]) * shape.num_experts + router + 2 * shape.hidden_size
    return shape.num_layers * block + embedding_parameters(shape) + shape.hidden_size


def embedding_parameters(shape: ModelShape) -> int:
    """Count the weights of the embedding and of the output matrix, once where they are the same."""
    return shape.vocab_size * shape.hidden_size * (1 if shape.tied_embeddings else 2)


def count_lora_parameters(shape: ModelShape, *, rank: int) -> int:
    """Count the weights of adapters on every linear layer of a dense model, the output matrix excepted.

    A matrix of a inputs and b outputs gets rank * (a + b).

    Source: Hu et al. 2021, LoRA, section 4.1.
    """
    return shape.num_layers * rank * sum(matrix.fan_in + matrix.fan_out for matrix in block_matrices(shape))
