"""Looking up models and GPUs by the names people and drivers write."""

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.cpus import cpu_rates
from finetune_exe.knowledge.gpus import find_gpu, gpu_facts
from finetune_exe.knowledge.models import ModelFacts, find_model, find_model_of_shape, model_facts
from finetune_exe.knowledge.presets import find_preset

MEASUREMENTS = Path(__file__).resolve().parents[3] / ".." / "shared" / "truth" / "measurements.dev.csv"


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("llama 3.1 8b", "meta-llama/Llama-3.1-8B-Instruct"),
        ("LLAMA-3.1-8B-instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("meta-llama/Meta-Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct"),
        ("qwen2.5 7b", "Qwen/Qwen2.5-7B-Instruct"),
        ("gemma 2 9b it", "google/gemma-2-9b-it"),
        ("Llama3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("mistral 7b", "mistralai/Mistral-7B-Instruct-v0.3"),
        ("mistral 7b v0.1", "mistralai/Mistral-7B-Instruct-v0.1"),
        ("phi 3.5 mini", "microsoft/Phi-3.5-mini-instruct"),
        ("gpt2-xl", "openai-community/gpt2-xl"),
        ("olmo 2 7b", "allenai/OLMo-2-1124-7B-Instruct"),
        ("qwen 1.8b", "Qwen/Qwen-1_8B-Chat"),
        ("mixtral 8x7b", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        ("gpt2", "openai-community/gpt2"),
        ("SmolLM2 135M Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    ],
)
def test_a_model_is_found_as_people_write_it(name: str, reference: str) -> None:
    assert find_model(name).reference == reference


def test_every_model_is_found_by_its_own_names() -> None:
    for facts in model_facts():
        assert find_model(facts.name) == find_model(facts.reference) == facts
        assert find_model(facts.base_reference).shape == facts.shape
        found = find_model_of_shape(facts.shape)
        assert found is not None
        assert found.shape == facts.shape


@given(
    facts=st.sampled_from(model_facts()),
    owner=st.sampled_from(["", "unsloth/", "TheBloke/", "somebody/"]),
    packing=st.sampled_from(["", "-GPTQ", "-AWQ", "-GGUF", "-bnb-4bit", "-unsloth-bnb-4bit", "-Q4_K_M-GGUF", "-8bit"]),
    upper=st.booleans(),
)
def test_a_packed_model_is_the_model(facts: ModelFacts, owner: str, packing: str, upper: bool) -> None:
    name = owner + facts.reference.rpartition("/")[2] + packing
    assert find_model(name.upper() if upper else name) == facts


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-VL-7B-Instruct", "someone/Llama-3.1-8B-abliterated", "Llama-3.1-9B"])
def test_another_model_of_like_name_is_not_taken_for_it(name: str) -> None:
    with pytest.raises(FineTuneError, match="FT-M01"):
        find_model(name)


@pytest.mark.parametrize("name", ["gpt-4", "GPT-4o-mini", "gpt-3.5-turbo", "openai/gpt-5", "claude-3-opus", "gemini"])
def test_a_model_of_a_service_is_told_where_it_can_be_trained(name: str) -> None:
    with pytest.raises(FineTuneError, match=r"weights .* are not published") as caught:
        find_model(name)
    assert "--to openai" in caught.value.fix


def test_an_unknown_model_is_told_with_the_nearest() -> None:
    with pytest.raises(FineTuneError, match="FT-M01") as caught:
        find_model("lama 3.1 8b")
    assert "Llama-3.1-8B-Instruct" in caught.value.fix
    assert "a folder whose config.json has its dimensions" in caught.value.fix
    assert "--model 'meta-llama/Llama-3.1-8B-Instruct'" in caught.value.fix


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
        ("A100-SXM4-40GB", "A100 SXM 40GB"),
        ("A100-80GB (inferred)", "A100 SXM 80GB"),
        ("B200-180GB power-limited", "B200 SXM 180GB"),
        ("RTXA6000-48GB", "RTX A6000 48GB"),
        ("AMD Instinct MI300X", "MI300X 192GB"),
        ("Apple M2 Ultra", "Apple M2 Ultra (76-core)"),
        ("Apple M3", "Apple M3 (10-core)"),
        ("m3 pro 18gb", "Apple M3 Pro (18-core) 18GB"),
        ("MacBook Pro M4 Max", "Apple M4 Max (40-core)"),
        ("Mac Studio M2 Ultra", "Apple M2 Ultra (76-core)"),
        ("v100", "V100 SXM 16GB"),
        ("2080", "RTX 2080 8GB"),
        ("NVIDIA GH200 480GB", "GH200 96GB"),
    ],
)
def test_a_gpu_is_found_as_people_and_drivers_write_it(name: str, found: str) -> None:
    assert find_gpu(name).name == found


def test_every_gpu_is_found_by_its_own_name() -> None:
    assert all(find_gpu(facts.name) == facts for facts in gpu_facts())


def test_a_gpu_with_other_memory_keeps_its_rates() -> None:
    refitted, usual = find_gpu("RTX 4090 48GB"), find_gpu("RTX 4090")
    assert (refitted.name, refitted.memory_gib) == ("RTX 4090 48GB", 48)
    assert refitted.bf16_tflops == usual.bf16_tflops


def test_every_gpu_that_measurements_name_is_found() -> None:
    if not MEASUREMENTS.exists():
        pytest.skip("the published measurements are not on this machine")
    with MEASUREMENTS.open() as file:
        named = {row["gpu_type"] for row in csv.DictReader(file)}
    for name in named:
        if re.search(r"unknown|^\d+GB GPU", name):
            continue
        found, memory = find_gpu(name), re.search(r"(\d+)GB", name)
        chip = re.match(r"[A-Z]+\d+[A-Z]?", name)
        assert chip is not None
        assert chip[0] in found.name.replace(" ", ""), name
        assert memory is None or found.memory_gib == int(memory[1]), name


@pytest.mark.parametrize("name", ["rtx 4091", "", "nvidia", "banana", "rtx", "RTX 4090 Laptop GPU", "48GB GPU"])
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
