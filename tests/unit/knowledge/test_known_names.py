"""Looking up models and GPUs by the names people and drivers write."""

import pytest

from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.cpus import cpu_rates
from finetune_exe.knowledge.gpus import find_gpu, gpu_facts
from finetune_exe.knowledge.models import find_model, find_model_of_shape, model_facts
from finetune_exe.knowledge.presets import find_preset


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("llama 3.1 8b", "meta-llama/Llama-3.1-8B-Instruct"),
        ("LLAMA-3.1-8B-instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("meta-llama/Meta-Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct"),
        ("qwen2.5 7b", "Qwen/Qwen2.5-7B-Instruct"),
        ("gemma 2 9b it", "google/gemma-2-9b-it"),
        ("mixtral 8x7b", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        ("gpt2", "openai-community/gpt2"),
        ("SmolLM2 135M Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    ],
)
def test_a_model_is_found_as_people_write_it(name: str, reference: str) -> None:
    assert find_model(name).reference == reference


def test_every_model_is_found_by_its_own_names() -> None:
    for facts in model_facts():
        assert find_model(facts.name) == find_model(facts.reference) == find_model(facts.base_reference) == facts
        found = find_model_of_shape(facts.shape)
        assert found is not None
        assert found.shape == facts.shape


def test_an_unknown_model_is_told_with_the_nearest() -> None:
    with pytest.raises(FineTuneError, match="FT-M01") as caught:
        find_model("lama 3.1 8b")
    assert "Llama-3.1-8B-Instruct" in caught.value.fix
    assert "folder" in caught.value.fix


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("4090", "RTX 4090 24GB"),
        ("rtx4090", "RTX 4090 24GB"),
        ("NVIDIA GeForce RTX 3090 Ti", "RTX 3090 Ti 24GB"),
        ("3090", "RTX 3090 24GB"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM 80GB"),
        ("NVIDIA H100 PCIe", "H100 PCIe 80GB"),
        ("a100 40gb", "A100 SXM 40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM 80GB"),
        ("Tesla T4", "T4 16GB"),
        ("L40", "L40 48GB"),
        ("L4", "L4 24GB"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada 48GB"),
        ("a10 24 GiB", "A10 24GB"),
    ],
)
def test_a_gpu_is_found_as_people_and_drivers_write_it(name: str, found: str) -> None:
    assert find_gpu(name).name == found


def test_every_gpu_is_found_by_its_own_name() -> None:
    assert all(find_gpu(facts.name) == facts for facts in gpu_facts())


@pytest.mark.parametrize("name", ["rtx 4091", "", "nvidia", "banana"])
def test_an_unknown_gpu_is_refused(name: str) -> None:
    with pytest.raises(FineTuneError, match="FT-H01") as caught:
        find_gpu(name)
    assert "--vram" in caught.value.fix


def test_a_processor_gets_the_best_row_it_has_the_instructions_for() -> None:
    assert cpu_rates(["avx2", "avx512f", "avx512_bf16", "amx_bf16"]).features == ("amx_bf16",)
    assert cpu_rates(["avx2", "avx512f"]).features == ("avx512f",)
    assert cpu_rates([]).features == ()


def test_presets_are_the_specifications_columns() -> None:
    table = [
        (preset.learning_rate, preset.epochs, preset.batch_size, preset.lora_rank, preset.warmup_fraction)
        for preset in map(find_preset, ("conservative", "balanced", "aggressive"))
    ]
    assert table == [(1e-5, 1, 1, 8, 0.10), (2e-4, 3, 4, 16, 0.03), (5e-4, 5, 8, 64, 0.01)]
