"""`fine-tune review` and `fine-tune config --from`: what a shell and a CI see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.unit.report.golden import assert_golden
from tests.unit.review.planted import SOUND

from finetune_exe.cli.config import command as config_command
from finetune_exe.cli.review import TOOLS
from finetune_exe.cli.review import command as review_command
from finetune_exe.errors import FineTuneError


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in SOUND.items():
        (tmp_path / name).write_text(text)
    mistaken = SOUND["axolotl.yaml"].replace("learning_rate", "learning_rat").replace("adapter: lora", "adapter: qlora")
    (tmp_path / "mistaken.yaml").write_text(mistaken)
    return tmp_path


def review(*arguments: str) -> Result:
    return CliRunner().invoke(review_command, arguments, catch_exceptions=False)


def config(*arguments: str) -> Result:
    return CliRunner().invoke(config_command, arguments, catch_exceptions=False)


def test_the_text_says_place_reason_and_remedy(files: Path) -> None:
    done = review("mistaken.yaml", "axolotl.yaml")
    assert done.exit_code == 3
    assert_golden("report_review.txt", done.stdout)


def test_the_exit_status_is_that_of_a_gate(files: Path) -> None:
    assert review("axolotl.yaml").exit_code == 0
    assert review("swift.yaml", "--strict").exit_code == 0
    (files / "swift.yaml").write_text(SOUND["swift.yaml"].replace("tuner_type", "train_type"))
    assert review("swift.yaml").exit_code == 0
    assert review("swift.yaml", "--strict").exit_code == 3


def test_json_is_one_object(files: Path) -> None:
    (files / "other.yaml").write_text("colour: red\n")
    done = review("mistaken.yaml", "other.yaml", "--json")
    content = json.loads(done.stdout)
    assert [file["tool"] for file in content["files"]] == ["axolotl"]
    finding = content["files"][0]["findings"][0]
    assert {"code", "severity", "line", "column", "key", "what", "why", "fix", "source"} == set(finding)
    assert content["passed_over"][0]["path"] == "other.yaml"


def test_sarif_and_json_exclude_each_other(files: Path) -> None:
    assert review("mistaken.yaml", "--json", "--sarif").exit_code == 2
    assert json.loads(review("mistaken.yaml", "--sarif").stdout)["version"] == "2.1.0"


def test_a_file_cannot_steer_the_terminal(files: Path) -> None:
    (files / "x.yaml").write_text(SOUND["axolotl.yaml"] + '"col\\e[31mour": "\\e]0;owned\\a"\n')
    done = review("x.yaml")
    assert "\x1b" not in done.stdout
    assert "\x1b" not in review("x.yaml", "--json").stdout


def test_the_program_can_be_named(files: Path) -> None:
    (files / "short.yaml").write_text("learning_rate: 2e-4\nmicro_batch_size: two\n")
    assert review("short.yaml", "--for", "axolotl").exit_code == 3
    assert review("train_trl.py", "--for", "trl").exit_code == 0


def test_an_unknown_file_names_the_programs_that_can_be_named(files: Path) -> None:
    (files / "x.yaml").write_text("colour: red\n")
    with pytest.raises(FineTuneError, match="FT-C16") as refused:
        review("x.yaml")
    assert refused.value.fix.partition("--for ")[2].split("|") == sorted(TOOLS, key=refused.value.fix.index)


def test_a_plan_is_reviewed_too(files: Path) -> None:
    assert config("--from", "axolotl.yaml", "--cpu", "-o", "plan.yaml").exit_code == 0
    assert "a plan of this program" in review("plan.yaml").stdout
    plan = (files / "plan.yaml").read_text()
    (files / "plan.yaml").write_text(plan.replace("lora_rank: 16", "lora_rnk: 16"))
    done = review("plan.yaml")
    assert done.exit_code == 3
    line = next(number for number, text in enumerate(plan.splitlines(), start=1) if "lora_rank: 16" in text)
    assert f"plan.yaml:{line}:3: error[plan]: method.lora_rnk: unknown key; did you mean lora_rank?" in done.stdout


def test_from_one_trainer_to_another(files: Path) -> None:
    done = config("--from", "axolotl.yaml", "--cpu", "--to", "llamafactory", "-o", str(files), "--overwrite")
    assert done.exit_code == 0
    assert "settings carried over from axolotl.yaml (Axolotl" in done.stderr
    assert "axolotl.yaml:16: attn_implementation" in done.stderr
    text = (files / "llamafactory.yaml").read_text() if done.exit_code == 0 else ""
    assert "model_name_or_path" in text


def test_what_is_wrong_with_a_file_is_said_where_a_plan_is_made_of_it(files: Path) -> None:
    text = (files / "axolotl.yaml").read_text()
    (files / "axolotl.yaml").write_text(text + "lora_alpa: 32\n")
    done = config("--from", "axolotl.yaml", "--cpu", "--json")
    assert done.exit_code == 0
    assert "error[misspelt_key]: lora_alpa is no key" in done.stderr
    [found] = json.loads(done.stdout)["review"]["findings"]
    assert found["code"] == "misspelt_key"


def test_from_goes_alone(files: Path) -> None:
    assert config("Qwen/Qwen3-0.6B", "--from", "axolotl.yaml").exit_code == 2
    content = json.loads(config("--from", "axolotl.yaml", "--cpu", "--json").stdout)
    assert [entry["key"] for entry in content["not_carried_over"]] == ["attn_implementation"]
    changed = config("--from", "axolotl.yaml", "--cpu", "--set", "method.lora_rank=4", "--json")
    assert json.loads(changed.stdout)["plan"]["method"]["lora_rank"] == 4
