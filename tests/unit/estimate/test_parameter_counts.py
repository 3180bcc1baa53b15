"""Counting weights, held against the published totals."""

import pytest

from finetune_exe.estimate.parameters import (
    block_parameters,
    count_lora_parameters,
    count_parameters,
    count_targeted_parameters,
    embedding_parameters,
)
from finetune_exe.knowledge.models import find_model, model_facts

PLAIN = [facts.name for facts in model_facts() if facts.verified and facts.shape.gated_mlp]
OTHERS = [facts.name for facts in model_facts() if facts.name not in PLAIN]


@pytest.mark.parametrize("name", PLAIN)
def test_counts_agree_with_the_published_totals(name: str) -> None:
    facts = find_model(name)
    assert count_parameters(facts.shape) == pytest.approx(facts.num_parameters, rel=5e-4)


@pytest.mark.parametrize("name", OTHERS)
def test_models_with_positions_and_biases_are_counted_but_for_those(name: str) -> None:
    facts = find_model(name)
    assert count_parameters(facts.shape) == pytest.approx(facts.num_parameters, rel=0.025)


@pytest.mark.parametrize("rank", [1, 16])
def test_lora_counts_agree_with_the_published_ones_of_llama_8b(rank: int) -> None:
    """LoRA Without Regret gives 1,769,472 weights for each rank on the MLP and 851,968 on attention."""
    shape = find_model("llama 3.1 8b").shape
    assert count_lora_parameters(shape, rank=rank, targets=["gate", "up", "down"]) == rank * 1_769_472
    assert count_lora_parameters(shape, rank=rank) == rank * (1_769_472 + 851_968)
    assert count_lora_parameters(shape, rank=rank, targets=["head"]) == rank * 132_352


def test_every_expert_has_adapters_but_a_token_runs_through_few() -> None:
    shape = find_model("mixtral 8x7b").shape
    attention = count_lora_parameters(shape, rank=1, targets=["query", "key", "value", "output"])
    one = shape.model_copy(update={"num_experts": 1, "experts_per_token": 1})
    alone = count_lora_parameters(shape, rank=1, stacked_experts=False) - attention
    assert alone == 8 * (count_lora_parameters(one, rank=1) - attention)
    saved = 8 * shape.num_layers * shape.hidden_size  # gate and up of an expert share one first factor
    assert count_lora_parameters(shape, rank=1) - attention == alone - saved
    active = shape.num_layers * block_parameters(shape, active=True) + embedding_parameters(shape)
    assert active == pytest.approx(12.9e9, rel=0.01)  # Mixtral of Experts (2024): 13B active


def test_targeted_weights_are_those_of_the_named_matrices() -> None:
    shape = find_model("llama 3.1 8b").shape
    assert count_targeted_parameters(shape, targets=["query"]) == 32 * 4096 * 4096


def test_deepseek_is_counted_with_its_narrow_keys_its_dense_layer_and_its_shared_experts() -> None:
    facts = find_model("deepseek v2 lite")
    assert count_parameters(facts.shape) == pytest.approx(15_706_484_224, rel=1e-5)
    active = facts.shape.num_layers * block_parameters(facts.shape, active=True) + embedding_parameters(facts.shape)
    assert active == pytest.approx(2.7e9, rel=0.02)  # DeepSeek-V2 (2024), appendix B: 15.7B, 2.4B without embeddings


def test_an_output_matrix_of_its_own_counts() -> None:
    shape = find_model("SmolLM2-135M-Instruct").shape
    untied = shape.model_copy(update={"tied_embeddings": False})
    assert count_parameters(untied) - count_parameters(shape) == embedding_parameters(shape) == 49152 * 576
