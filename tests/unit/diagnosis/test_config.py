"""Configurations of other tools are read, changed in their own words, and otherwise left alone."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from finetune_exe.diagnosis.config import changed, difference, read_config
from finetune_exe.diagnosis.material import gather
from finetune_exe.diagnosis.tools import tools
from finetune_exe.domain.plan import Plan
from finetune_exe.review.review import review_file

AXOLOTL = """\
base_model: meta-llama/Llama-3.1-8B  # the base
sequence_len: 4096
adapter: lora
lora_r: 16

datasets:
  - path: data.jsonl
    type: alpaca
num_epochs: 10
micro_batch_size: 8
learning_rate: 0.02   # too high?
"""
TORCHTUNE = """\
tokenizer:
  _component_: torchtune.models.llama3.llama3_tokenizer
  max_seq_len: 2048
optimizer:
  _component_: torch.optim.AdamW
  lr: 3e-2
checkpointer:
  _component_: torchtune.training.FullModelHFCheckpointer
enable_activation_checkpointing: False
batch_size: 4
epochs: 9
"""
LITGPT = "checkpoint_dir: checkpoints/a/b\ntrain:\n  global_batch_size: 8\n  lr_warmup_steps: 10\n  epochs: 5\n"
FACTORY = "stage: sft\nfinetuning_type: lora\ncutoff_len: 1024\nlearning_rate: 1.0e-2\nnum_train_epochs: 30.0\n"
SWIFT = "swift sft \\\n    --model Qwen/Qwen2.5-7B \\\n    --train_type lora \\\n    --learning_rate 1e-2\n"
TRL = "from trl import SFTConfig\nargs = SFTConfig(output_dir='o', learning_rate=2e-2, num_train_epochs=20)\n"
DEEPSPEED = (
    '{\n  "train_micro_batch_size_per_gpu": 8,\n  "zero_optimization": {"stage": 3},\n  "gradient_clipping": 10\n}\n'
)


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text", "tool", "settings"),
    [
        (
            "a.yaml",
            AXOLOTL,
            "axolotl",
            {"optimizer.learning_rate": 0.02, "schedule.epochs": 10, "method.lora_rank": 16},
        ),
        ("t.yaml", TORCHTUNE, "torchtune", {"data.max_length": 2048, "precision.gradient_checkpointing": False}),
        ("l.yaml", LITGPT, "litgpt", {"schedule.epochs": 5}),
        ("f.yaml", FACTORY, "llamafactory", {"optimizer.learning_rate": 0.01, "data.max_length": 1024}),
        ("run.sh", SWIFT, "swift", {"optimizer.learning_rate": 0.01, "model.reference": "Qwen/Qwen2.5-7B"}),
        ("t.py", TRL, "trl", {"optimizer.learning_rate": 0.02, "schedule.epochs": 20}),
        ("ds.json", DEEPSPEED, "deepspeed", {"batch.micro_batch_size": 8, "optimizer.max_grad_norm": 10}),
    ],
)
def test_a_tool_is_known_by_its_configuration(
    tmp_path: Path, name: str, text: str, tool: str, settings: dict[str, object]
) -> None:
    config = read_config(write(tmp_path, name, text))
    assert config is not None
    assert config.tool == tool
    assert settings.items() <= config.settings.items()


def test_what_one_file_says_goes_before_the_default_of_another(tmp_path: Path) -> None:
    said = write(tmp_path, "a.yaml", f"{AXOLOTL}max_grad_norm: 0.3\n")
    silent = write(tmp_path, "run.sh", "axolotl train a.yaml --micro_batch_size 2\n")
    settings = gather([said, silent]).settings
    assert settings["optimizer.max_grad_norm"] == 0.3
    assert settings["batch.micro_batch_size"] == 2


@pytest.mark.parametrize(
    ("text", "bound"),
    [(AXOLOTL, 1.0), (f"{AXOLOTL}max_grad_norm: 0.3\n", 0.3), (FACTORY, 1.0), (TORCHTUNE, None)],
)
def test_gradients_are_clipped_as_the_tool_does_where_nothing_is_said(
    tmp_path: Path, text: str, bound: float | None
) -> None:
    config = read_config(write(tmp_path, "a.yaml", text))
    assert config is not None
    assert config.settings.get("optimizer.max_grad_norm") == bound


def test_only_the_lines_named_change(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, "a.yaml", AXOLOTL))
    assert config
    new = changed(config, {"optimizer.learning_rate": 2e-4, "schedule.epochs": 1.0, "method.lora_dropout": 0.05})
    moved = [line for line in difference(AXOLOTL, new, name="a.yaml").splitlines() if line[:1] in "+-"][2:]
    assert moved == ["-num_epochs: 10", "+num_epochs: 1.0", "-learning_rate: 0.02   # too high?",
                     "+learning_rate: 0.0002   # too high?", "+lora_dropout: 0.05"]  # fmt: skip


def test_of_two_equal_keys_the_last_one_counts_as_for_the_program(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, "a.yaml", f"{AXOLOTL}num_epochs: 3\ngroup_by_length: yes\n"))
    assert config
    assert config.settings["schedule.epochs"] == 3
    assert config.settings["batch.group_by_length"] is True
    assert changed(config, {"schedule.epochs": 1}) == f"{AXOLOTL}num_epochs: 1\ngroup_by_length: yes\n"


@pytest.mark.parametrize(("name", "text"), [("a.yaml", AXOLOTL), ("t.yaml", TORCHTUNE), ("l.yaml", LITGPT), ("f.yaml", FACTORY)])  # fmt: skip
def test_a_yaml_parser_reads_back_what_was_set(tmp_path: Path, name: str, text: str) -> None:
    config = read_config(write(tmp_path, name, text))
    assert config
    assert config.tool
    keys = tools()[config.tool].keys
    for path, value in (("optimizer.learning_rate", 5e-5), ("precision.gradient_checkpointing", True),
                        ("precision.base_dtype", "bfloat16"), ("method.target_modules", "all-linear")):  # fmt: skip
        if path not in keys:
            continue
        content = YAML(typ="safe").load(changed(config, {path: value}))
        for part in keys[path].name.split("."):
            content = content[part]
        assert content == keys[path].written(value)


def test_arguments_programs_and_json_are_changed_too(tmp_path: Path) -> None:
    swift, trl = read_config(write(tmp_path, "r.sh", SWIFT)), read_config(write(tmp_path, "t.py", TRL))
    deepspeed = read_config(write(tmp_path, "d.json", DEEPSPEED))
    assert swift
    assert trl
    assert deepspeed
    patch = {"optimizer.learning_rate": 1e-4, "optimizer.max_grad_norm": 1.0}
    assert "--learning_rate 0.0001 \\\n    --max_grad_norm 1.0\n" in changed(swift, patch)
    assert "learning_rate=0.0001," in changed(trl, patch)
    assert json.loads(changed(deepspeed, patch))["gradient_clipping"] == 1.0


def test_keys_of_tools_name_settings_that_exist() -> None:
    known = set(Plan.model_fields)
    for tool in tools().values():
        assert {path.split(".")[0] for path in tool.keys} <= known
        for path, key in tool.keys.items():
            for value in ("bfloat16", True) if path.startswith("precision") else ():
                assert key.values is None or key.meant(key.written(value)) == value or str(value) not in key.values


@pytest.mark.parametrize("text", ["[", "{{{{", "a: &a [*a, *a]", "- 1\n- 2", "%YAML 9\n---\n&", "\x00\x01", "a: !!python/object:os.system x"])  # fmt: skip
def test_what_is_no_configuration_is_passed_over(tmp_path: Path, text: str) -> None:
    config = read_config(write(tmp_path, "x.yaml", text))
    assert config is None or config.tool is None


@pytest.mark.parametrize("innermost", ["[x, x, x, x, x, x, x, x, x, x]", "{p: {}, q: {}, r: {}, s: {}, t: {}, u: {}}"])
def test_ten_lines_that_stand_for_billions_are_read_at_once(innermost: str, tmp_path: Path) -> None:
    lines = [f"a: &a {innermost}"]
    for below, name in zip("abcdefghijk", "bcdefghijkl", strict=True):
        parts = [f"*{below}"] * 10
        inner = (
            f"[{', '.join(parts)}]"
            if innermost[0] == "["
            else f"{{{', '.join(f'k{n}: {part}' for n, part in enumerate(parts))}}}"
        )
        lines.append(f"{name}: &{name} {inner}")
    file = tmp_path / "bomb.yaml"
    file.write_text("\n".join([*lines, "learning_rate: 2.0e-4", ""]))
    config = read_config(file)
    assert config is None or "learning_rate" not in config.values


@pytest.mark.parametrize(("name", "text"), [("a.yaml", AXOLOTL), ("t.yaml", TORCHTUNE), ("l.yaml", LITGPT), ("f.yaml", FACTORY)])  # fmt: skip
def test_a_number_that_is_set_is_one_for_yaml_1_1_too(tmp_path: Path, name: str, text: str) -> None:
    config = read_config(write(tmp_path, name, text))
    assert config is not None
    assert config.tool
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)  # type: ignore[assignment]
    key = tools()[config.tool].keys["optimizer.learning_rate"].name
    for path in ("optimizer.learning_rate",):
        content = yaml.load(changed(config, {path: 1e-5}))
        for part in key.split("."):
            content = content[part]
        assert content == 1e-5
    assert tools()[config.tool].write("optimizer.learning_rate", 1e-5) == f"{key}: 1.0e-5"


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("name", "text"), [("a.yaml", AXOLOTL), ("t.py", TRL), ("ds.json", DEEPSPEED), ("run.sh", SWIFT)]
)
def test_a_patch_can_be_applied(name: str, text: str, ends: str, tmp_path: Path) -> None:
    text = f"# a page ends\f here\n{text}" if name in ("t.py", "run.sh") else text
    path = tmp_path / name
    path.write_bytes(text.replace("\n", ends).encode())
    config = read_config(path)
    assert config is not None
    new = changed(config, {"optimizer.learning_rate": 1e-5, "optimizer.max_grad_norm": 1.0})
    assert new != config.text
    assert new.count("\n") == new.count(ends)
    (tmp_path / "x.patch").write_bytes(difference(config.text, new, name=name).encode())
    subprocess.run(["git", "apply", "x.patch"], cwd=tmp_path, check=True, env={"PATH": os.environ["PATH"], "HOME": "/"})
    assert path.read_bytes().decode() == new


PATCHES: dict[str, str | int | float | bool] = {
    "optimizer.learning_rate": 1e-5, "optimizer.kind": "adamw_8bit", "optimizer.max_grad_norm": 1.0,
    "optimizer.weight_decay": 0.01, "schedule.epochs": 1.0, "schedule.max_steps": 100,
    "schedule.warmup.fraction": 0.03, "batch.micro_batch_size": 1, "batch.gradient_accumulation_steps": 8,
    "batch.group_by_length": True, "data.max_length": 512, "precision.gradient_checkpointing": True,
    "precision.base_dtype": "bfloat16", "method.kind": "qlora", "method.lora_rank": 8,
    "checkpoints.keep_last": 2, "checkpoints.early_stopping_patience": 3,
}  # fmt: skip
TRL_YAML = "model_name_or_path: Qwen/Qwen2.5-0.5B\nmax_length: 1024\npacking: false\nuse_peft: true\noutput_dir: run\n"
TRL_LORA = f"from peft import LoraConfig\n{TRL}adapter = LoraConfig(r=4)\n"
TROUBLE = {
    "unknown_key",
    "misspelt_key",
    "wrong_type",
    "wrong_choice",
    "deprecated_key",
    "number_as_text",
    "key_given_twice",
}


@pytest.mark.parametrize("path", PATCHES)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", AXOLOTL),
        ("f.yaml", FACTORY),
        ("run.sh", SWIFT),
        ("t.py", TRL_LORA),
        ("trl.yaml", TRL_YAML),
        ("l.yaml", LITGPT),
    ],
)
def test_a_review_has_nothing_against_what_a_patch_writes(name: str, text: str, path: str, tmp_path: Path) -> None:
    config = read_config(write(tmp_path, name, text))
    assert config is not None
    before = {finding.key for review in review_file(config.path) for finding in review.findings}
    write(tmp_path, name, changed(config, {path: PATCHES[path]}))
    again = read_config(config.path)
    assert again is not None
    found = [finding for review in review_file(config.path) for finding in review.findings]
    assert [f.what for f in found if f.code in TROUBLE and f.key not in before] == []
    assert config.tool is not None
    if path in tools()[config.tool].keys and path not in ("method.kind", "precision.base_dtype"):
        assert again.settings[path] == PATCHES[path]


def test_weights_in_4_bit_are_asked_for_in_each_programs_words(tmp_path: Path) -> None:
    for name, text, lines in (
        ("a.yaml", AXOLOTL, ("adapter: qlora", "load_in_4bit: true")),
        ("f.yaml", FACTORY, ("finetuning_type: lora", "quantization_bit: 4")),
        (
            "run.sh",
            SWIFT.replace("train_type", "tuner_type"),
            ("--tuner_type lora", "--quant_method bnb", "--quant_bits 4"),
        ),
    ):
        config = read_config(write(tmp_path, name, text))
        assert config is not None
        new = changed(config, {"method.kind": "qlora"})
        assert all(line in new for line in lines)
        assert tools()[config.tool or ""].keys["method.kind"].read(config.values) == ("lora",)
