"""What a plan says first: whether to fine-tune at all, and what the data lack."""

import re

import pytest
from tests.unit.planning.planned import make_plan, make_profile

from finetune_exe.domain.plan_yaml import apply_settings
from finetune_exe.estimate.rows import split_sizes
from finetune_exe.planning.analyze import refresh
from finetune_exe.planning.hardware import parse_hardware
from finetune_exe.planning.notes import notes


@pytest.mark.parametrize(
    "description",
    [
        "our docs change daily and the bot should know them",
        "answer questions from our company wiki",
        "a chatbot that knows everything about our products",
    ],
)
def test_for_new_facts_retrieval_comes_first(description: str) -> None:
    for profile in (None, make_profile(), make_profile(num_rows=20)):
        first = make_plan(profile=profile, description=description).notes[0]
        assert "retrieval" in first
        assert "arXiv 2312.05934" in first


@pytest.mark.parametrize("description", ["write a docstring", "summarize news articles", "write product descriptions"])
def test_nobody_is_warned_without_need(description: str) -> None:
    said = " ".join(make_plan(profile=make_profile(num_rows=100_000), description=description).notes)
    assert "retrieval" not in said
    assert "prompt" not in said
    assert "rows" not in said


def test_what_a_prompt_can_ask_for_is_said_first_until_there_are_rows_enough() -> None:
    assert "A prompt can ask for this" in make_plan(description="turn emails into JSON").notes[0]
    many = make_plan(profile=make_profile(num_rows=5000), description="turn emails into JSON")
    assert not any("A prompt can ask" in note for note in many.notes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_rows": 20}, "With 20 rows, first try them as examples in the prompt"),
        ({"num_rows": 300}, "300 rows will show an effect"),
        ({"num_rows": 300}, "30 test rows show only large effects"),
        ({"num_rows": 60}, "partly luck"),
        ({"missing": ("no row has an answer",)}, "No row has an answer."),
        ({"duplicate_share": 0.25}, "25% of the rows say the same"),
    ],
)
def test_what_the_data_lack_is_said(changes: dict[str, object], said: str) -> None:
    assert any(said in note for note in make_plan(profile=make_profile(**changes)).notes)


def test_plain_texts_of_a_task_that_has_answers_are_said_to_have_none() -> None:
    texts = make_profile(format="completion")
    said = "The rows are plain texts"
    assert any(said in note for note in make_plan(profile=texts, description="translate questions into SQL").notes)
    assert not any(said in note for note in make_plan(profile=texts, description="continue my novel").notes)


def test_texts_that_are_dialogues_are_said_to_be_and_how_to_part_them() -> None:
    dialogues = make_profile(format="completion", turns="### Instruction:,### Answer:")
    [said] = [note for note in make_plan(profile=dialogues, description="continue my novel").notes if "--turns" in note]
    assert "--turns '### Instruction:,### Answer:' -o NEW.jsonl" in said
    assert said.startswith("Each text is a whole dialogue")


@pytest.mark.parametrize(("rows", "said"), [(200, "20 test rows show only large"), (1000, "100 test rows miss small")])
def test_what_so_many_test_rows_miss_is_named(rows: int, said: str) -> None:
    assert any(said in note for note in make_plan(profile=make_profile(num_rows=rows)).notes)


@pytest.mark.parametrize("gpu", ["8", "RTX 3060", "RTX 4090", "2xRTX 3090", "H100"])
def test_a_larger_model_that_fits_in_4_bit_is_named_with_what_it_takes(gpu: str) -> None:
    asked = {"description": "summarize news", "num_rows": 800, "hardware": parse_hardware(gpu)}
    chosen = make_plan(**asked)
    (note,) = (note for note in chosen.notes if "fits in 4 bit" in note)
    found = re.search(r"about ([\d.]+) GiB.* by --model (\S+) --method qlora", note)
    assert found
    larger = make_plan(**asked, model=found[2], method="qlora")
    assert (larger.model.num_parameters or 0) >= 1.5 * (chosen.model.num_parameters or 0) > 0
    assert next(check for check in larger.readiness if check.name == "Memory fits").passed
    memory = larger.estimates["memory"].value
    assert memory.low <= float(found[1]) * 2**30 <= memory.high
    assert ("$" in note.partition(", by --model")[0]) == ("cost" in chosen.estimates)


def test_no_larger_model_is_named_beside_one_that_was_asked_for_or_without_a_gpu() -> None:
    for asked in ({"hardware": parse_hardware("RTX 4090"), "model": "Qwen/Qwen3-8B"}, {}, {"method": "full"}):
        assert not any("fits in 4 bit" in note for note in make_plan(description="summarize news", **asked).notes)


def test_rows_without_answers_are_not_said_to_show_an_effect() -> None:
    said = "rows will show an effect"
    assert any(said in note for note in make_plan(profile=make_profile(num_rows=400)).notes)
    bare = make_plan(profile=make_profile(num_rows=400, empty_answer_share=1.0))
    assert not any(said in note for note in bare.notes)


def test_plain_texts_for_a_model_tuned_for_chat_name_its_pretrained_variant() -> None:
    asked = {"description": "continue my novel", "hardware": parse_hardware("24"), "method": "qlora"}
    tuned = make_plan(profile=make_profile(format="completion"), model="llama-3.1-8b", **asked)
    note = next(note for note in tuned.notes if "was tuned for chat" in note)
    found = re.search(r"--model (\S+)\.$", note)
    assert found
    base = make_plan(profile=make_profile(format="completion"), model=found[1], **asked)
    assert not any("was tuned for chat" in note for note in base.notes)


def test_a_model_asked_for_whose_makers_do_not_name_the_language_of_the_answers_is_pointed_out() -> None:
    german = make_profile(languages={"de": 0.9, "en": 0.1})
    said = "Most answers are in German, which the makers of SmolLM2-135M-Instruct do not name among its languages"
    assert any(said in note for note in make_plan(profile=german, model="embedded").notes)
    estonian = make_plan(profile=make_profile(languages={"et": 1.0}), model="embedded")
    assert any("Most answers are in Estonian," in note for note in estonian.notes)
    chosen = make_plan(profile=german)
    assert any(point == "made for English, German" for point in chosen.shortlist[0].reasons)
    others = (chosen, make_plan(profile=german, model="qwen3-0.6b"), make_plan(model="embedded"),
              make_plan(profile=make_profile(languages={"en": 0.9, "de": 0.1}), model="embedded"))  # fmt: skip
    assert not any("Most answers are in" in note for plan in others for note in plan.notes)


def test_idle_gpus_have_a_reason() -> None:
    plan = make_plan(profile=make_profile(num_rows=300), hardware=parse_hardware("8xA100"), model="qwen3")
    assert any("a step of 4 rows cannot be shared among all" in note for note in plan.notes)


def test_rows_too_few_for_their_labels_are_said() -> None:
    labels = tuple(f"label {number}" for number in range(77))
    plan = make_plan(profile=make_profile(num_rows=308, labels=labels), description="sort mails by intent")
    assert plan.data_needs.minimum_samples == 770
    assert "308 rows for 77 labels are few: at least 770 are wanted, and 3,850 recommended." in plan.notes
    assert [check.passed for check in plan.readiness if check.name == "Enough rows"] == [False]


def test_pairs_that_are_spoken_of_are_no_plain_answers() -> None:
    said = "--set data.format=preference --set objective.kind=dpo"
    assert any(said in note for note in make_plan(description="dpo on my preference data").notes)
    assert not any(said in note for note in make_plan(description="find out which phone people prefer").notes)


def test_an_unusual_rate_for_full_training_is_said() -> None:
    full = refresh(apply_settings(make_plan(profile=make_profile()), ["method.kind=full"]))
    hot = apply_settings(full, ["optimizer.learning_rate=5e-4"])
    assert any("usually wants a tenth" in note for note in notes(hot))


def test_what_apples_gpu_is_good_for_is_said() -> None:
    said = " ".join(make_plan(hardware=parse_hardware("Apple M3")).notes)
    assert "fine-tune config --plan PLAN --to mlx" in said
    assert "was taken with 24.0 GiB" in said
    assert "was taken with" not in " ".join(make_plan(hardware=parse_hardware("Apple M3 16GB")).notes)
    assert "TPU" in " ".join(make_plan(hardware=parse_hardware("TPU v5e")).notes)
    assert not any("fine-tune train` computes" in note for note in make_plan(hardware=parse_hardware("H100")).notes)


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_what_is_trained_of_experts_is_said_and_in_how_many_bits_they_lie_counted(method: str) -> None:
    """Mixtral: 46.7 billion weights, 45.1 of them in experts: 8 x 32 x 3 x 4096 x 14336."""
    plan = make_plan(
        profile=make_profile(), model="mistralai/Mixtral-8x7B-v0.1", method=method, hardware=parse_hardware("h200")
    )
    rank = 16 * 32 * 8 * (4096 + 2 * 14336 + 14336 + 4096)
    plan = refresh(apply_settings(plan, ["method.lora_rank=16"]))
    (said,) = (note for note in notes(plan) if "experts of a layer" in note)
    assert f"gets an adapter, {rank:,} trained weights in all" in said
    assert ("a pass holds those of one layer whole" in said) == (method == "qlora")
    each, ends = 2 if method == "lora" else 0.516, 2 * 32_000 * 4096
    assert plan.estimates["memory"].parts["weights"] == pytest.approx(each * (46.7e9 - ends) + 2 * ends, rel=0.001)
    attention = refresh(apply_settings(plan, ["method.target_modules=[q_proj, v_proj]"]))
    assert any("8 experts of each layer, 97% of the weights, stay as they are" in note for note in notes(attention))
    assert attention.estimates["memory"].parts["adapters"] == 4 * 16 * 32 * (4096 + 4096 + 4096 + 1024)


def test_nothing_is_said_of_experts_where_there_are_none() -> None:
    assert not any("expert" in note for note in make_plan(profile=make_profile(), method="qlora").notes)


@pytest.mark.parametrize(
    ("model", "method", "settings", "said"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "qlora", (), "--set method.offset_rounding=true"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "qlora", ("method.offset_rounding=true",), "; export merged"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "qlora", ("objective.kind=dpo", "data.format=preference"), None),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "lora", (), None),
        ("Qwen/Qwen3-8B", "qlora", (), None),
        ("embedded", "qlora", (), "on values of 4 bits (q4_1)"),
        ("embedded", "qlora", ("method.quantization=nf4",), "--set method.offset_rounding=true"),
    ],
)
def test_small_models_in_4_bit_are_told_how_to_win_back_what_rounding_costs(
    model: str, method: str, settings: tuple[str, ...], said: str | None
) -> None:
    plan = refresh(apply_settings(make_plan(profile=make_profile(), model=model, method=method), list(settings)))
    found = [note for note in notes(plan) if "rounding" in note or "4 bits" in note]
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_a_plan_reckons_with_the_rows_alone_that_are_learned() -> None:
    given = make_profile(num_rows=1000, num_unusable=500, empty_answer_share=0.1, duplicate_share=0.1)
    plan, same = make_plan(profile=given), make_plan(profile=make_profile(num_rows=400))
    assert split_sizes(plan) == split_sizes(same)
    assert plan.estimates["duration"].value == same.estimates["duration"].value
    assert plan.batch == same.batch
    assert any("450 rows will show an effect" in note for note in plan.notes)
    kept = refresh(apply_settings(plan, ["data.deduplicate=false"]))
    assert split_sizes(kept).train > split_sizes(plan).train
