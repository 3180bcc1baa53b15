"""What TRL printed in runs made to fail by benchmarks/debug.py, progress bars left out, is named, quoted and patched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.tiny import write_tokenizer

from finetune_exe.diagnosis.chat_template import look_at_template
from finetune_exe.workflow.debugging import Debugged, debug, patch_text

LOGS = Path(__file__).parent / "trl"
SCRIPT = """\
import torch
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

model = AutoModelForCausalLM.from_pretrained("org/model"{load})
config = SFTConfig(
    output_dir="out",
    per_device_train_batch_size=8,
{settings})
SFTTrainer(model=model, args=config).train()
"""
OTHER = (
    "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>' + m['content'] + '<|eot_id|>' }}"
    "{% endfor %}"
)


def asked(folder: Path, name: str, *, load: str = "", **settings: object) -> Debugged:
    shutil.copy(LOGS / f"{name}.log", folder / "train.log")
    lines = "".join(f"    {key}={value!r},\n" for key, value in settings.items())
    (folder / "train.py").write_text(SCRIPT.format(load=load, settings=lines))
    return debug([folder])


@pytest.mark.parametrize(
    ("name", "load", "settings", "label", "quoted", "added"),
    [
        ("half", ", dtype=torch.float16", {"learning_rate": 3e-3, "bf16": False}, "nan_loss", "0 with gradient norm nan",
         ["dtype=torch.bfloat16", "bf16=True"]),
        ("hot", "", {"learning_rate": 0.3}, "lr_divergence", "climbs to 2.0 times", ["learning_rate=1e-05", "warmup"]),
        ("disk", "", {"learning_rate": 3e-3}, "disk_full", "unexpected pos",
         ["save_total_limit=1", "save_only_model=True"]),
        ("unmarked", "", {"assistant_only_loss": True}, "loss_zero_masked", "{% generation %}",
         ["assistant_only_loss=False"]),
        ("masked", "", {"max_length": 24}, "loss_zero_masked", "num_samples=0", ["max_length=1024"]),
    ],
)  # fmt: skip
def test_each_failure_is_named_first_quoted_by_its_line_and_mended_in_the_script(
    tmp_path: Path, name: str, load: str, settings: dict[str, object], label: str, quoted: str, added: list[str]
) -> None:
    debugged = asked(tmp_path, name, load=load, **settings)
    first = debugged.diagnosis.findings[0]
    assert first.label == label
    assert debugged.diagnosis.tool == "trl"
    evidence = next(evidence for evidence in first.evidence if quoted in evidence.text)
    assert evidence.line
    lines = (LOGS / f"{name}.log").read_text().splitlines()
    if quoted in "\n".join(lines):
        assert quoted in lines[evidence.line - 1]
    diff = [line[1:] for line in patch_text(debugged).splitlines() if line[:1] == "+" and line[:3] != "+++"]
    for words in added:
        assert any(words in line for line in diff), (words, diff)


def test_a_patch_asks_for_nothing_that_is_so_already(tmp_path: Path) -> None:
    debugged = asked(tmp_path, "hot", learning_rate=0.3, max_grad_norm=0.3, warmup_steps=0.2)
    assert "optimizer.max_grad_norm" not in debugged.diagnosis.findings[0].patch
    assert "schedule.warmup.fraction" not in debugged.diagnosis.findings[0].patch
    full = asked(tmp_path, "disk", save_total_limit=1, save_only_model=True)
    assert full.diagnosis.findings[0].label == "disk_full"
    assert not full.diagnosis.findings[0].patch
    assert not full.diagnosis.findings[0].own_keys


def test_sound_losses_refute_what_a_setting_made_likely(tmp_path: Path) -> None:
    log = [{"loss": 3 * 0.9**i, "grad_norm": 1.0, "learning_rate": 5e-3, "epoch": i / 3, "step": i} for i in range(60)]
    log += [{"eval_loss": 3.1 * 0.9**i, "epoch": i / 3, "step": i} for i in range(0, 60, 3)]
    state = {"num_train_epochs": 20, "log_history": sorted(log, key=lambda entry: entry["step"])}
    (tmp_path / "out" / "checkpoint-60").mkdir(parents=True)
    (tmp_path / "out" / "checkpoint-60" / "trainer_state.json").write_text(json.dumps(state, indent=2))
    (tmp_path / "train.py").write_text(
        SCRIPT.format(load="", settings="    learning_rate=5e-3, num_train_epochs=20,\n")
    )
    labels = [finding.label for finding in debug([tmp_path]).diagnosis.findings]
    assert labels[0] in ("healthy", "undertrained")
    assert not {"lr_divergence", "overfitting"} & set(labels)


def test_lines_of_a_trainer_state_are_those_of_its_entries(tmp_path: Path) -> None:
    losses = [1.0, 0.8, 0.7, 0.9, 1.0, 1.1, 1.2]
    log = [{"loss": 1 / i, "step": i, "epoch": i} for i in range(1, 8)]
    log += [{"eval_loss": loss, "step": i, "epoch": i} for i, loss in enumerate(losses, 1)]
    path = tmp_path / "trainer_state.json"
    state = {"global_step": 7, "log_history": sorted(log, key=lambda entry: entry["step"])}
    path.write_text(json.dumps(state, indent=2, sort_keys=True))
    evidence = next(e for e in debug([path]).diagnosis.findings[0].evidence if e.line)
    around = "".join(path.read_text().splitlines()[evidence.line or 0 :][:4])
    assert '"eval_loss": 0.7' in around


@pytest.mark.parametrize(
    ("template", "label"),
    [
        (None, None),
        (OTHER, "no_learning_wrong_template"),
        ("{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}", "eos_not_learned"),
        ("{% for m in messages %}{{ '<|user|>' + m['content'] + eos_token }}{% endfor %}", None),
        ("{% for m in messages %}{{ m['content'] }}", None),
    ],
)
def test_a_saved_template_must_end_answers_where_generation_stops(
    tmp_path: Path, template: str | None, label: str | None
) -> None:
    folder = write_tokenizer(tmp_path / "checkpoint-8")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    assert [hit.label for hit in look_at_template(folder)] == ([label] if label else [])


def test_an_end_that_the_generation_settings_name_is_one(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "checkpoint-8")
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] + '<|head|>' }}{% endfor %}")
    assert [hit.label for hit in look_at_template(folder)] == ["eos_not_learned"]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]}))
    assert list(look_at_template(folder)) == []


ZEROS = "".join(
    f"{{'loss': '0', 'grad_norm': 'nan', 'learning_rate': '0.001', 'epoch': '{step / 10}'}}\n" for step in range(1, 25)
)


@pytest.mark.parametrize(("settings", "label"), [("fp16=True", "nan_loss"), ("bf16=True", "loss_zero_masked")])
def test_zeros_from_the_first_step_are_an_overflow_where_the_script_asks_for_float16(
    tmp_path: Path, settings: str, label: str
) -> None:
    (tmp_path / "train.log").write_text(ZEROS)
    (tmp_path / "train.py").write_text(SCRIPT.format(load="", settings=f"    {settings},\n"))
    debugged = debug([tmp_path])
    assert debugged.diagnosis.findings[0].label == label
    if label == "nan_loss":
        diff = patch_text(debugged)
        assert "\n-    fp16=True,\n+    fp16=False,\n" in diff
        assert "\n+    bf16=True,\n" in diff


def test_of_several_scripts_the_one_that_names_the_output_is_meant(tmp_path: Path) -> None:
    shutil.copy(LOGS / "hot.log", tmp_path / "train.log")
    for name in ("first", "second"):
        script = SCRIPT.format(load="", settings="    learning_rate=0.3,\n").replace('"out"', f'"{name}"')
        (tmp_path / f"{name}.py").write_text(script)
    assert debug([tmp_path]).material.configs == []  # type: ignore[union-attr]
    checkpoint = tmp_path / "second" / "checkpoint-9"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text(json.dumps({"log_history": [{"loss": 1.0, "step": 9}]}))
    debugged = debug([tmp_path])
    assert "first.py (left out: it may not be what made the run)" in debugged.diagnosis.subject
    assert patch_text(debugged).startswith("--- a/second.py")


@pytest.mark.parametrize(
    ("error", "label", "fix"),
    [
        ("error[FT-I11]: the run needs 6.12 MiB, and 5.88 MiB are free\n  fix:   free some space", "disk_full", "Free"),
        ("error[FT-D04]: 0 of 9 rows are left\n  why:   9 rows: the conversation has 45 tokens, more than max_length 24"
         " (too_long)\n  fix:   raise data.max_length", "truncation", "Raise"),
        ("error[FT-D04]: 0 of 9 rows are left\n  why:   9 rows: the template ends the answer with no special token, so "
         "the model could never learn to stop\n  fix:   give a template", "no_learning_wrong_template", "Use the model's"),
        ("error[FT-T02]: rows cannot be packed with this model\n  fix:   --set batch.packing=false", "unknown_error",
         "--set batch.packing=false"),
    ],
)  # fmt: skip
def test_what_this_program_refuses_is_named_or_its_own_fix_repeated(
    tmp_path: Path, error: str, label: str, fix: str
) -> None:
    (tmp_path / "train.log").write_text(f"encode 9/9\n{error}\n  more:  docs/errors/index.md\n")
    first = debug([tmp_path / "train.log"]).diagnosis.findings[0]
    assert first.label == label
    assert first.fix.startswith(fix)
