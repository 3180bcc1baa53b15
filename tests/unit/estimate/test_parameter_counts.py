"""Counting weights, held against the published totals."""

import json
from pathlib import Path

import pytest

from finetune_exe.estimate.parameters import count_lora_parameters, count_parameters, embedding_parameters
from finetune_exe.knowledge.models import find_model, model_facts

TRUTH = Path(__file__).resolve().parents[3] / ".." / "shared" / "truth" / "model_configs.json"


@pytest.mark.parametrize("name", [facts.name for facts in model_facts() if facts.family != "gpt2"])
def test_counts_agree_with_the_published_totals(name: str) -> None:
    if not TRUTH.exists():
        pytest.skip("the reference table of models is not on this machine")
    facts = find_model(name)
    models = json.loads(TRUTH.read_text())["models"].values()
    published = next(model for model in models if model["hub_id"] == facts.base_reference)["params_published"]
    assert count_parameters(facts.shape) == pytest.approx(published, rel=5e-4)


def test_the_embedded_model_is_counted_exactly() -> None:
    assert count_parameters(find_model("SmolLM2-135M-Instruct").shape) == 134_515_008


def test_gpt2_is_counted_but_for_its_positions_and_biases() -> None:
    assert count_parameters(find_model("gpt2").shape) == pytest.approx(124_439_808, rel=8e-3)


@pytest.mark.parametrize("rank", [1, 16])
def test_lora_counts_agree_with_the_published_ones_of_llama_8b(rank: int) -> None:
    shape = find_model("llama 3.1 8b").shape
    assert count_lora_parameters(shape, rank=rank) == rank * (1_769_472 + 851_968)


def test_an_output_matrix_of_its_own_counts() -> None:
    shape = find_model("SmolLM2-135M-Instruct").shape
    untied = shape.model_copy(update={"tied_embeddings": False})
    assert count_parameters(untied) - count_parameters(shape) == embedding_parameters(shape) == 49152 * 576
