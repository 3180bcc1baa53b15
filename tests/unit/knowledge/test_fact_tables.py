"""Every fact has a source and a date, and agrees with the tables it was taken from."""

import json
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.parameters import count_parameters
from finetune_exe.knowledge.gpu_rates import link_of
from finetune_exe.knowledge.gpus import find_gpu, gpu_facts
from finetune_exe.knowledge.licenses import license_facts
from finetune_exe.knowledge.models import EMBEDDED_MODEL, ModelFacts, find_model, model_facts
from finetune_exe.knowledge.task_signs import task_signs

TRUTH = Path(__file__).resolve().parents[3] / ".." / "shared" / "truth"
LEARNED_POSITIONS = {"GPT2LMHeadModel", "MPTForCausalLM", "GPTNeoForCausalLM", "OPTForCausalLM"}


def truth(name: str, key: str) -> Any:
    if not (TRUTH / name).exists():
        pytest.skip(f"the reference table {name} is not on this machine")
    return json.loads((TRUTH / name).read_text())[key]


def test_every_row_has_a_source_and_a_date() -> None:
    tables = [file for file in files("finetune_exe.knowledge").iterdir() if file.name.endswith(".toml")]
    assert len(tables) >= 7
    for table in tables:
        content = tomllib.loads(table.read_text("utf-8"))
        for rows in content.values():
            if isinstance(rows, list):
                assert all(row["source"] and (row.get("date") or content["date"]) for row in rows), table.name


def test_every_model_of_the_reference_table_is_known() -> None:
    for name, model in truth("model_configs.json", "models").items():
        facts, experts = find_model(model["hub_id"] or name), model["moe"] or {}
        shape = facts.shape
        assert (model["hub_id"] or name) in (facts.reference, facts.base_reference)
        assert (shape.hidden_size, shape.num_layers) == (model["hidden_size"], model["n_layers"])
        assert (shape.num_attention_heads, shape.num_key_value_heads) == (model["n_heads"], model["n_kv_heads"])
        assert (shape.head_dim, shape.vocab_size) == (model["head_dim"], model["vocab_size"])
        assert shape.intermediate_size == experts.get("moe_intermediate_size", model["intermediate_size"])
        assert (shape.num_experts, shape.experts_per_token, shape.shared_intermediate_size) == (
            experts.get("n_experts", 1), experts.get("experts_per_token", 1),
            experts.get("shared_intermediate_size", 0),
        )  # fmt: skip
        assert facts.context_length >= model["context_length"]
        assert facts.gated == model["gated"]


@pytest.mark.parametrize("facts", [facts for facts in model_facts() if facts.verified], ids=lambda facts: facts.name)
def test_dimensions_add_up_to_the_published_size(facts: ModelFacts) -> None:
    counted = count_parameters(facts.shape)
    positions = facts.context_length * facts.shape.hidden_size if facts.architecture in LEARNED_POSITIONS else 0
    biases = 1.5e-3 if facts.qkv_bias or positions else 5e-4
    assert counted <= facts.num_parameters * (1 + 5e-4)
    assert facts.num_parameters - counted <= positions + biases * facts.num_parameters


def test_what_is_not_verified_is_not_far_off_either() -> None:
    far = {
        facts.name
        for facts in model_facts()
        if count_parameters(facts.shape) != pytest.approx(facts.num_parameters, rel=0.014)
    }
    assert far == {"granite-3.0-3b-a800m"}


def test_models_are_told_apart() -> None:
    for key in ("name", "reference"):
        values = [getattr(facts, key) for facts in model_facts()]
        assert len(values) == len(set(values)), key
    assert find_model(EMBEDDED_MODEL).license == "Apache-2.0"


def test_what_is_said_of_models_is_well_formed() -> None:
    for facts in model_facts():
        assert license_facts(facts.license).says, facts.name
        assert (facts.mmlu is None) == (facts.mmlu_source is None), facts.name
        assert facts.mmlu is None or 25 <= facts.mmlu <= 100
        assert facts.released is None or re.fullmatch(r"(19|20)\d\d(-(0[1-9]|1[0-2]))?", facts.released), facts.name
        assert all(code == "multilingual" or re.fullmatch(r"[a-z]{2}", code) for code in facts.languages), facts.name
        assert facts.shape.experts_per_token <= facts.shape.num_experts
        assert not facts.specialist or facts.strengths


def test_licenses_without_conditions_allow_commercial_use() -> None:
    terms = [license_facts(facts.license) for facts in model_facts()]
    assert {one.name for one in terms if one.permissive} == {"Apache-2.0", "MIT"}
    assert all(one.commercial for one in terms if one.permissive)


def test_every_gpu_of_the_reference_table_is_known() -> None:
    for gpu in truth("gpus.json", "gpus"):
        facts = find_gpu(gpu["name"])
        assert facts.name == gpu["name"]
        assert (facts.vendor, facts.memory_gib, facts.bf16) == (gpu["vendor"], gpu["memory_gib"], gpu["bf16_native"])
        assert facts.bandwidth_gb_per_second == gpu["mem_bandwidth_gbs"]
        rates = (facts.bf16_tflops, facts.fp16_tflops, facts.fp32_tflops, facts.tf32_tflops)
        formats = ("bf16_dense", "fp16_dense", "fp32", "tf32_dense")
        assert rates == tuple(gpu[f"tflops_{name}"] or 0 for name in formats)
        quotes = {price.usd_per_hour for price in facts.prices}
        assert {price["usd_per_h"] for price in gpu["price"]} <= quotes


@pytest.mark.parametrize(
    ("name", "gib"), [("RTX 4070 Ti", 12), ("RTX 4070 Ti SUPER", 16), ("RTX 4070", 12), ("3070 ti", 8), ("3070", 8)]
)
def test_a_card_is_not_taken_for_its_larger_sister(name: str, gib: int) -> None:
    assert find_gpu(name).memory_gib == gib
    with pytest.raises(FineTuneError):
        find_gpu("RTX 5060")


def test_a_price_spans_its_quotes() -> None:
    priced = [facts for facts in gpu_facts() if facts.prices]
    assert len(priced) > 15
    for facts in gpu_facts():
        price = facts.price_usd_per_hour
        assert (price is None) == (not facts.prices)
        if price is not None:
            quotes = [quote.usd_per_hour for quote in facts.prices]
            assert price.low <= min(quotes) * 1.0001
            assert max(quotes) <= price.high * 1.0001
            assert price.high >= 1.99 * price.low


def test_nvidia_gpus_since_ampere_compute_bfloat16() -> None:
    for facts in gpu_facts():
        if facts.vendor == "NVIDIA":
            assert facts.compute_capability is not None
            assert facts.bf16 == (float(facts.compute_capability) >= 8) == (facts.bf16_tflops > 0), facts.name


def test_no_sign_of_a_task_is_found_in_nothing() -> None:
    assert not any(sign.pattern.search("") for sign in task_signs())


def test_links_are_those_of_the_reference_table() -> None:
    """It gives both directions together."""
    checked = 0
    for gpu in truth("gpus.json", "gpus"):
        link, said = link_of(find_gpu(gpu["name"])), gpu["interconnect"] or ""
        given = re.match(r"(NVLink\d?|Infinity Fabric) (\d+) GB/s", said)
        lanes = re.match(r"PCIe(\d) x(\d+)", said)
        if given is not None:
            assert 2 * link.gb_per_second == int(given[2]), gpu["name"]
        elif lanes is not None:
            assert 2 * link.gb_per_second == pytest.approx(4 * 2 ** (int(lanes[1]) - 4) * int(lanes[2]), rel=0.04)
        checked += bool(given or lanes)
    assert checked > 30


@pytest.mark.parametrize(
    ("name", "within", "between"),
    [("H100", 450, 400), ("H100 PCIe", 63, 12.5), ("H200", 450, 400), ("A100", 300, 200), ("L40S", 31, 12.5)],
)
def test_a_gpu_has_the_link_of_its_form(name: str, within: float, between: float) -> None:
    link = link_of(find_gpu(name))
    assert (link.gb_per_second, link.network_gb_per_second) == (within, between)
