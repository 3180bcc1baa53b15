"""The ranked base models: hard demands first, then what is known of quality, each with reasons."""

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_exe.domain.plan import Candidate
from finetune_exe.domain.task import DataProfile, TaskSpec, TaskType
from finetune_exe.domain.values import Hardware
from finetune_exe.knowledge.licenses import license_facts
from finetune_exe.knowledge.models import find_model
from finetune_exe.planning.hardware import parse_hardware
from finetune_exe.planning.model import describe_model
from finetune_exe.planning.shortlist import shortlist

CPU = Hardware(cpu="a processor", num_cores=2, memory_bytes=16 << 30, cpu_features=("avx512_bf16",))
CARD = parse_hardware("RTX 4090")


def profile(**changes: Any) -> DataProfile:
    fields: dict[str, Any] = {
        "format": "alpaca", "format_evidence": (), "num_rows": 5000, "num_unreadable": 0, "num_turns_mean": 2.0,
        "prompt_characters_p50": 200, "answer_characters_p50": 200, "answer_characters_p95": 400,
        "row_characters_mean": 500.0, "row_characters_p99": 1500, "distinct_answers": 5000,
    }  # fmt: skip
    return DataProfile(**{**fields, **changes})


def ranked(
    task: TaskType = "generation",
    *,
    hardware: Hardware = CARD,
    rows: DataProfile | None = None,
    description: str = "a task",
    **spec: Any,
) -> tuple[Candidate, ...]:
    return shortlist(TaskSpec(description=description, **spec), task=task, profile=rows, hardware=hardware)


def against(candidate: Candidate) -> str:
    return "\n".join(reason for reason in candidate.reasons if reason.startswith("against: "))


@settings(max_examples=60)
@given(
    task=st.sampled_from([task for task in get_args(TaskType) if task != "other"]),
    gpu=st.sampled_from([None, "2", "8", "T4", "RTX 4090", "H100", "8xB200"]),
    permissive=st.booleans(),
    method=st.sampled_from([None, "lora", "qlora", "full", "prefix"]),
    rows=st.sampled_from([None, profile(), profile(format="completion", languages={"ja": 1.0})]),
)
def test_there_always_is_one_choice_with_reasons(
    task: TaskType, gpu: str | None, permissive: bool, method: Any, rows: DataProfile | None
) -> None:
    hardware = parse_hardware(gpu) if gpu else CPU
    listed = ranked(task, hardware=hardware, rows=rows, permissive_license=permissive, method=method)
    assert [candidate.chosen for candidate in listed] == [True] + [False] * (len(listed) - 1)
    assert len({candidate.reference for candidate in listed}) == len(listed) <= 6
    for candidate in listed:
        assert candidate.reasons
        assert not permissive or license_facts(candidate.license).permissive
        assert describe_model(candidate.reference).num_parameters == candidate.num_parameters


def test_without_a_gpu_the_embedded_model_leads() -> None:
    for task in ("generation", "code", "completion"):
        assert ranked(task, hardware=CPU)[0].reference == "embedded"


def test_a_larger_card_never_gets_a_weaker_model() -> None:
    scores = []
    for gib in (4, 8, 12, 16, 24, 40, 48, 80, 140, 180):
        chosen = ranked(hardware=parse_hardware(str(gib)))[0]
        scores.append(find_model(chosen.reference).mmlu or 0)
    assert scores == sorted(scores)
    assert scores[-1] > 80


def test_what_does_not_fit_is_named_with_its_numbers_and_the_way_to_it() -> None:
    *_, larger = ranked()
    assert larger.num_parameters > ranked()[0].num_parameters
    assert "there are 24.0 GiB; with --method qlora about" in against(larger)


def test_full_training_gets_a_smaller_model_and_four_bit_a_larger() -> None:
    full, lora, four = (ranked(method=method)[0].num_parameters for method in ("full", "lora", "qlora"))
    assert full < lora < four


def test_code_goes_to_models_made_for_code_and_only_code() -> None:
    assert "Coder" in ranked("code")[0].name
    assert not any("Coder" in candidate.name or "Math" in candidate.name for candidate in ranked("chat"))
    assert any("reasoning in particular" in reason for reason in ranked("reasoning")[0].reasons)


def test_the_language_of_the_data_counts_for_more_than_size() -> None:
    german = profile(languages={"de": 0.9, "en": 0.1})
    for hardware in (CPU, CARD):
        for listed in (
            ranked(rows=german, hardware=hardware),
            ranked("translation", hardware=hardware),
            ranked(description="answer German mail", hardware=hardware),
        ):
            chosen = (
                find_model("SmolLM2-135M") if listed[0].reference == "embedded" else find_model(listed[0].reference)
            )
            assert chosen.speaks("de"), listed[0].reference
    assert ranked(description="polish my English", hardware=CPU)[0].reference == "embedded"
    few = profile(languages={"en": 0.97, "de": 0.03})
    assert ranked(rows=few, hardware=CPU)[0].reference == "embedded"


def test_rows_longer_than_the_context_rule_a_model_out_of_the_lead() -> None:
    long = profile(row_characters_p99=180_000)
    assert find_model(ranked(rows=long)[0].reference).context_length >= 60_000
    assert find_model(ranked()[0].reference).context_length < 60_000


def test_plain_text_takes_the_pretrained_variant_and_says_so() -> None:
    rows = profile(format="completion")
    chosen = ranked("generation", rows=rows)[0]
    assert chosen.reference == find_model(chosen.reference).base_reference
    assert any("without a chat template" in reason for reason in chosen.reasons)
    assert "without a template" in against(ranked(rows=rows, hardware=CPU)[0])


def test_conversations_take_the_chat_variant_and_its_template() -> None:
    chosen = ranked("chat", rows=profile(num_rows=80))[0]
    facts = find_model(chosen.reference)
    assert facts.chat
    assert chosen.reference == facts.reference
    assert any("80 rows cannot teach" in reason and "template" in reason for reason in chosen.reasons)


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-3B-Instruct", "meta-llama/Llama-2-7b-hf"])
def test_licences_with_conditions_are_left_out_on_wish(name: str) -> None:
    everything = ranked(hardware=parse_hardware("RTX 3060"))
    assert any(not license_facts(candidate.license).permissive for candidate in everything)
    allowed = ranked(hardware=parse_hardware("RTX 3060"), permissive_license=True)
    assert name not in [candidate.reference for candidate in allowed]


def test_no_model_for_research_only_is_chosen() -> None:
    for gib in range(4, 100, 4):
        chosen = ranked(hardware=parse_hardware(str(gib)))[0]
        assert license_facts(chosen.license).commercial
