"""A plan written for another trainer and read back is the same plan, as far as that trainer can say it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.unit.export.test_exporters import plan
from tests.unit.review.planted import SOUND

from finetune_exe.domain.plan import (
    BaseModelChoice,
    Batch,
    Checkpoints,
    DataChoice,
    Dpo,
    Full,
    Lora,
    Optimizer,
    Plan,
    Precision,
    Prefix,
    Qlora,
    Schedule,
    WarmupFraction,
    WarmupSteps,
)
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.duration import estimate_duration
from finetune_exe.export.configuration_file import ConfigurationFile
from finetune_exe.export.targets import find_exporter
from finetune_exe.review.carry import carry
from finetune_exe.review.configuration import read_configurations
from finetune_exe.workflow.carrying import carry_plan

PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
"""A plan has dozens of numbers: to look for the smallest that fails would take minutes."""
RATES = st.sampled_from([1e-5, 5e-5, 1.7e-4, 2e-4, 3.3e-4, 1e-3])
LOW_RANK = st.fixed_dictionaries({
    "lora_rank": st.integers(1, 256),
    "lora_alpha": st.integers(1, 512).map(float),
    "lora_dropout": st.sampled_from([0.0, 0.05, 0.1]),
    "target_modules": st.sampled_from(["all-linear", ("q_proj", "v_proj"), ("q_proj", "k_proj", "v_proj", "o_proj")]),
    "use_rslora": st.booleans(),
    "use_dora": st.booleans(),
})  # fmt: skip
METHODS = st.one_of(
    LOW_RANK.map(lambda fields: Lora(**fields)),
    st.tuples(LOW_RANK, st.booleans()).map(lambda pair: Qlora(**pair[0], double_quantization=pair[1])),
    st.just(Full()),
)
WARMUPS = st.one_of(
    st.integers(1, 500).map(lambda steps: WarmupSteps(steps=steps)),
    st.sampled_from([0.01, 0.03, 0.1]).map(lambda fraction: WarmupFraction(fraction=fraction)),
)
PLANS = st.fixed_dictionaries({
    "model": st.just(BaseModelChoice(reference="Qwen/Qwen3-0.6B", name="Qwen3-0.6B", revision="abc")),
    "method": METHODS,
    "optimizer": st.builds(
        Optimizer,
        kind=st.sampled_from(["adamw", "adamw_8bit", "paged_adamw_8bit", "lion", "adafactor"]),
        learning_rate=RATES,
        weight_decay=st.sampled_from([0.0, 0.01, 0.1]),
        beta1=st.sampled_from([0.9, 0.8]),
        beta2=st.sampled_from([0.95, 0.999]),
        max_grad_norm=st.sampled_from([None, 0.3, 1.0]),
    ),
    "schedule": st.builds(
        Schedule,
        kind=st.sampled_from(["cosine", "linear", "constant", "inverse_sqrt"]),
        epochs=st.sampled_from([1.0, 1.5, 2.0, 3.0]),
        max_steps=st.sampled_from([None, 77]),
        warmup=WARMUPS,
    ),
    "batch": st.builds(
        Batch,
        micro_batch_size=st.integers(1, 32),
        gradient_accumulation_steps=st.integers(1, 32),
        group_by_length=st.booleans(),
    ),
    "precision": st.builds(
        Precision,
        base_dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
        gradient_checkpointing=st.booleans(),
        tf32=st.booleans(),
    ),
    "checkpoints": st.builds(
        Checkpoints,
        evaluations_per_epoch=st.sampled_from([1.0, 2.0, 4.0]),
        keep_last=st.integers(1, 4),
        early_stopping_patience=st.sampled_from([None, 2, 5]),
    ),
    "data": st.builds(DataChoice, max_length=st.integers(64, 8192), chat_template=st.sampled_from([None, "plain"])),
    "seed": st.integers(0, 1000),
})  # fmt: skip


def expressed(entry: ConfigurationFile, of: Plan) -> set[str]:
    """The settings that the exporter has a key for."""
    return {path for key in entry.keys(of) for path in key.paths}


@pytest.mark.parametrize("name", ["axolotl", "llamafactory", "ms-swift"])
@given(groups=PLANS)
@settings(max_examples=25, deadline=None, phases=PHASES, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_written_and_read_back_is_the_same(name: str, groups: dict[str, object], tmp_path: Path) -> None:
    first = plan(**dict(groups))
    entry = find_exporter(name)
    assert isinstance(entry, ConfigurationFile)
    path = tmp_path / entry.file_name
    path.write_text(entry.export(first)[0].text, encoding="utf-8")
    assert_same(first, path, expressed(entry, first) - {"data.chat_template"})


@pytest.mark.parametrize("name", ["trl", "python", "unsloth"])
@given(groups=PLANS)
@settings(max_examples=15, deadline=None, phases=PHASES, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_script_read_back_is_the_same(name: str, groups: dict[str, object], tmp_path: Path) -> None:
    first = plan(**dict(groups))
    try:
        (file,) = find_exporter(name).export(first)
    except FineTuneError:
        return  # the trainer does not know the method or the optimizer
    path = tmp_path / file.name
    path.write_text(file.text, encoding="utf-8")
    left_out = {line.split("=")[0].strip("# ") for line in file.text.splitlines() if line.startswith("#   ")}
    elsewhere = ("data.", "evaluation.", "objective.", "parallelism.")
    paths = {path for path, _, _ in first.settings() if not path.startswith(elsewhere)} | {"data.max_length"}
    if name == "unsloth":
        paths -= {"method.target_modules", "method.double_quantization"}
    if name in ("trl", "unsloth"):
        paths -= {"precision.tf32", "method.lora_plus_ratio", "method.trained_tokens", "schedule.decay_fraction"}
    assert_same(first, path, paths - left_out)


def assert_same(first: Plan, path: Path, paths: set[str]) -> None:
    """Hold the settings read back against those written; one that is not named is at the plan's default."""
    carried = {one.path: one.value for one in carry(read_configurations(path)[0]).settings}
    wanted = {path: value for path, value, _ in first.settings() if path in paths}
    usual = {path: default for path, _, default in first.settings()}
    usual["schedule.warmup.kind"] = first.schedule.warmup.kind
    found = {path: carried.get(path, usual[path]) for path in wanted}
    assert {path: tuple(value) if isinstance(value, list) else value for path, value in found.items()} == wanted


def test_a_prefix_in_a_script_is_carried_over(tmp_path: Path) -> None:
    first = plan(method=Prefix(num_virtual_tokens=9))
    (file,) = find_exporter("trl").export(first)
    (tmp_path / file.name).write_text(file.text, encoding="utf-8")
    assert carry_plan(tmp_path / file.name, task="t", hardware="cpu").plan.method == first.method


def test_each_decision_names_the_file_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "axolotl.yaml"
    path.write_text(SOUND["axolotl.yaml"])
    carried = carry_plan(path, task="t", hardware="cpu")
    decision = carried.plan.decisions["optimizer.learning_rate"]
    line = SOUND["axolotl.yaml"].splitlines().index("learning_rate: 2e-4") + 1
    assert decision.source == f"{path}:{line}"
    assert decision.value == 2e-4
    assert "Axolotl" in carried.plan.decisions["optimizer.beta2"].source
    assert carried.plan.method == Lora(lora_rank=16, lora_alpha=32.0)


def test_what_stays_behind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "llamafactory.yaml"
    path.write_text(SOUND["llamafactory.yaml"] + "neftune_noise_alpha: 5\n")
    left = {entry.key: entry.line for entry in carry_plan(path, task="t", hardware="cpu").left}
    assert left["neftune_noise_alpha"] == 23
    assert "template" in left
    assert "output_dir" not in left


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("axolotl.yaml", SOUND["axolotl.yaml"].replace("sample_packing: true", "rl: dpo\nrl_beta: 0.3")),
        ("llamafactory.yaml", SOUND["llamafactory.yaml"].replace("stage: sft", "stage: dpo\npref_beta: 0.3")),
        ("trl.yaml", SOUND["trl.yaml"] + "beta: 0.3\n"),
        ("train.py", SOUND["train_trl.py"].replace("SFT", "DPO").replace("bf16=True", "beta=0.3")),
    ],
)
def test_learning_from_pairs_is_carried_over(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert carry_plan(path, task="t", hardware="cpu").plan.objective == Dpo(beta=0.3)


@pytest.mark.parametrize(
    ("name", "removed", "path", "value"),
    [
        ("llamafactory.yaml", "", "method.lora_alpha", 16.0),
        ("llamafactory.yaml", "bf16: true\n", "precision.base_dtype", "float32"),
        ("trl.yaml", "bf16: true\n", "precision.base_dtype", "bfloat16"),
        ("trl.yaml", "lora_target_modules: all-linear\n", "method.target_modules", ("q_proj", "v_proj")),
        ("train_trl.py", ', target_modules="all-linear"', "method.target_modules", ("q_proj", "v_proj")),
        ("torchtune.yaml", "", "optimizer.max_grad_norm", None),
        ("torchtune.yaml", "", "method.target_modules",
         ("q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")),
        ("swift.yaml", "", "optimizer.weight_decay", 0.1),
        ("axolotl.yaml", "bf16: auto\n", "precision.base_dtype", "bfloat16"),
        ("axolotl.yaml", "num_epochs: 3\n", "schedule.epochs", 1.0),
    ],
)  # fmt: skip
def test_what_a_file_does_not_say_is_what_its_program_takes(
    name: str, removed: str, path: str, value: object, tmp_path: Path
) -> None:
    """Source: the defaults of the programs' argument classes, and of PEFT for Llama and its kin."""
    assert removed in SOUND[name]
    (tmp_path / name).write_text(SOUND[name].replace(removed, ""))
    plan = carry_plan(tmp_path / name, task="t", hardware="cpu").plan
    assert {path: found for path, found, _ in plan.settings()}[path] == value


def test_a_number_without_bounds_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "trl.yaml"
    path.write_text(SOUND["trl.yaml"].replace("max_length: 2048", "max_length: 1e999"))
    assert "data.max_length" not in {one.path for one in carry(read_configurations(path)[0]).settings}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("torch.optim.AdamW", "adamw"), ("bitsandbytes.optim.PagedAdamW8bit", "paged_adamw_8bit"),
        ("bitsandbytes.optim.Lion", "lion"),
    ],
)  # fmt: skip
def test_an_optimizer_is_known_by_its_class(theirs: str, ours: str, tmp_path: Path) -> None:
    path = tmp_path / "torchtune.yaml"
    path.write_text(SOUND["torchtune.yaml"].replace("torch.optim.AdamW", theirs))
    found = {one.path: one.value for one in carry(read_configurations(path)[0]).settings}
    assert found["optimizer.kind"] == ours


def test_old_names_are_carried_over(tmp_path: Path) -> None:
    path = tmp_path / "trl.yaml"
    path.write_text(SOUND["trl.yaml"].replace("max_length: 2048", "max_seq_length: 777"))
    carried = carry_plan(path, task="t", hardware="cpu")
    assert carried.plan.data.max_length == 777
    assert "max_seq_length" not in {entry.key for entry in carried.left}


def test_a_trainer_is_given_its_model_without_a_name(tmp_path: Path) -> None:
    """As in TRL's own first example; the run is as long as the rows that are recommended, for none are named."""
    path = tmp_path / "train.py"
    path.write_text(
        "from trl import SFTConfig, SFTTrainer\nrows = read()\n"
        "trainer = SFTTrainer('Qwen/Qwen3-0.6B', train_dataset=rows, args=SFTConfig(learning_rate=1e-5))\n"
    )
    plan = carry_plan(path, task="t", hardware="RTX 4090").plan
    assert plan.model.reference == "Qwen/Qwen3-0.6B"
    assert plan.optimizer.learning_rate == 1e-5
    same = plan.model_copy(update={"task": plan.task.model_copy(update={"num_rows": 1000})})
    assert plan.data_needs.recommended_samples == 1000
    assert plan.estimates["duration"] == estimate_duration(same)
    assert plan.estimates["duration"].parts["training"] > 1


def test_names_of_datasets_are_looked_up(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text(SOUND["dataset_info.json"])
    path = tmp_path / "llamafactory.yaml"
    path.write_text(SOUND["llamafactory.yaml"])
    assert carry_plan(path, task="t", hardware="cpu").plan.data.paths == ("rows.jsonl",)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("llamafactory.yaml", "model_name_or_path: Qwen/Qwen2.5-7B-Instruct\n", "", "no base model"),
        ("llamafactory.yaml", "stage: sft", "stage: ppo", "does not do"),
        ("dataset_info.json", "mine", "other", "not carried over"),
        ("trl.yaml", "bf16: true", "num_generations: 8", "does not do"),
        ("train_trl.py", "SFT", "GRPO", "does not do"),
        ("axolotl.yaml", "learning_rate: 2e-4", "learning_rate: 20", "learning_rate cannot be carried over"),
    ],
)
def test_what_no_plan_can_be_is_refused(name: str, old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(SOUND[name].replace(old, new))
    with pytest.raises(FineTuneError, match="FT-C17") as refused:
        carry_plan(path, task="t", hardware="cpu")
    assert message in str(refused.value)


@pytest.mark.parametrize("name", [name for name in SOUND if name not in ("dataset_info.json", "arguments.json")])
def test_every_form_is_carried_over(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(SOUND[name])
    carried = carry(read_configurations(path)[0])
    found = {one.path: one.value for one in carried.settings}
    assert found["optimizer.learning_rate"] in (1e-4, 2e-4, 3e-4)
    assert found["method.kind"] == ("qlora" if name == "train_unsloth.py" else "lora")
    assert str(found["model.reference"]).startswith(("Qwen/", "unsloth/", "meta-llama/"))
    assert found["data.max_length"] == 2048


def test_no_revision_in_a_script_is_none_in_the_plan(tmp_path: Path) -> None:
    named = BaseModelChoice(reference="Qwen/Qwen3-0.6B", name="Qwen3-0.6B")
    (file,) = find_exporter("python").export(plan(model=named))
    (tmp_path / file.name).write_text(file.text, encoding="utf-8")
    assert carry_plan(tmp_path / file.name, task="t", hardware="cpu").plan.model.revision is None
