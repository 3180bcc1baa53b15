"""Reviews find what was planted, say nothing of what is right, and never run or grow with what they read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest
from tests.unit.export.test_exporters import MUTATIONS, plan
from tests.unit.review.planted import PLANTED, SOUND, Planted

from finetune_exe.domain.review import ConfigurationReview
from finetune_exe.errors import FineTuneError
from finetune_exe.export.exporter import Exporter
from finetune_exe.export.targets import EXPORTERS
from finetune_exe.knowledge.peers import peers
from finetune_exe.knowledge.review_rules import review_rules
from finetune_exe.review.review import review_file
from finetune_exe.review.sarif import CODES, sarif
from finetune_exe.workflow.reviewing import review_files

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "review.md"


def reviewed(tmp_path: Path, name: str, text: str, **options: str) -> ConfigurationReview:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    (review,), _ = review_files([path], **options)  # type: ignore[arg-type]
    return review


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_what_was_planted_is_found(planted: Planted, tmp_path: Path) -> None:
    """The mistake is found at its line, and nothing else is called an error."""
    sound = SOUND[planted.file]
    assert planted.old in sound
    review = reviewed(tmp_path, planted.file, sound.replace(planted.old, planted.new, 1))
    line = sound[: sound.index(planted.old)].count("\n") + 1
    found = {(finding.code, finding.severity) for finding in review.findings}
    assert (planted.code, planted.severity) in found
    lines = range(line, line + 1 + planted.new.count("\n"))
    assert (
        any(finding.code == planted.code and finding.line in lines for finding in review.findings) or planted.elsewhere
    )
    errors = {finding.code for finding in review.findings if finding.severity == "error"}
    assert errors <= {planted.code, *planted.also}


@pytest.mark.parametrize("name", list(SOUND))
def test_nothing_is_said_against_what_is_sound(name: str, tmp_path: Path) -> None:
    review = reviewed(tmp_path, name, SOUND[name])
    assert not [finding for finding in review.findings if finding.severity != "note"]


WRITTEN = [entry for entry in EXPORTERS if entry.name not in ("plan", "openai")]


@pytest.mark.parametrize("entry", WRITTEN, ids=lambda entry: entry.name)
def test_no_error_in_what_this_program_writes_itself(entry: Exporter, tmp_path: Path) -> None:
    texts = {}
    for groups in MUTATIONS.values():
        try:
            (file, *_) = entry.export(plan(**groups))
        except FineTuneError:
            continue  # the trainer does not know the method
        texts[file.text] = file.name
    assert len(texts) > 20
    for text, name in texts.items():
        review = reviewed(tmp_path, name, text)
        assert review.tool == {"python": "script", "trl": "script"}.get(entry.name, entry.name)
        assert not [finding for finding in review.findings if finding.severity != "note"]


def test_every_key_of_a_rule_is_one_of_its_program() -> None:
    """A rule about a key that nobody has could never fire."""
    unknown = []
    for rule in review_rules():
        for tool, prefix in rule.prefixes.items():
            peer = peers()[tool]
            known = peer.types.keys() | peer.renamed.keys() | peer.groups | {"peft_used"}
            names = [prefix + name for name in rule.when if "**" not in name]
            components = tool in ("torchtune", "litgpt")
            unknown += [(tool, name) for name in names if name not in known and not (components and "." in name)]
    shared = {"args.pad_token", "warmup_ratio", "args.warmup_ratio", "gradient_checkpointing", "do_eval"}
    assert not [entry for entry in unknown if entry[1] not in shared]


def test_every_rule_and_rename_says_what_to_do() -> None:
    for rule in review_rules():
        assert rule.set or rule.fix
        assert rule.code in CODES


def test_the_fix_of_memory_fits(tmp_path: Path) -> None:
    """What is advised, written into the file, is no longer found too large."""
    text = (
        SOUND["axolotl.yaml"]
        .replace("micro_batch_size: 2", "micro_batch_size: 64")
        .replace("gradient_checkpointing: true", "gradient_checkpointing: false")
    )
    review = reviewed(tmp_path, "axolotl.yaml", text, gpu="A100 80GB")
    (finding,) = [finding for finding in review.findings if finding.code == "does_not_fit"]
    assert finding.severity == "error"
    rows = finding.fix.split("micro_batch_size: ")[1].split(",")[0]
    smaller = text.replace("micro_batch_size: 64", f"micro_batch_size: {rows}").replace(
        "gradient_checkpointing: false", "gradient_checkpointing: true"
    )
    assert not [
        one
        for one in reviewed(tmp_path, "axolotl.yaml", smaller, gpu="A100 80GB").findings
        if one.code == "does_not_fit"
    ]
    unknown = reviewed(tmp_path, "axolotl.yaml", text.replace("Qwen/Qwen2.5-7B-Instruct", "me/my-own"), gpu="A100 80GB")
    assert unknown.not_looked_at


def test_a_gpu_without_the_number_format_is_named(tmp_path: Path) -> None:
    text = SOUND["llamafactory.yaml"]
    codes = [
        finding.code for finding in reviewed(tmp_path, "x.yaml", text, gpu="T4").findings if finding.severity == "error"
    ]
    assert "precision" in codes
    codes = [finding.code for finding in reviewed(tmp_path, "x.yaml", text, gpu="A100 80GB").findings]
    assert "precision" not in codes


def test_what_torchtune_builds_is_a_model_of_known_size(tmp_path: Path) -> None:
    text = (
        SOUND["torchtune.yaml"]
        .replace("/models/Meta-Llama-3.1-8B-Instruct/", "model")
        .replace("batch_size: 2", "batch_size: 64")
    )
    review = reviewed(tmp_path, "x.yaml", text, gpu="RTX 4090")
    assert "does_not_fit" in {finding.code for finding in review.findings}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.yaml", b"", "empty"),
        ("x.yaml", b"   \n\n", "empty"),
        ("x.yaml", b"# only a comment\n", "nothing but comments"),
        ("x.yaml", b"a: [1, 2\n", "no YAML"),
        ("x.yaml", b"a:\n\t- b\n", "tab"),
        ("x.yaml", b"just text\n", "no settings"),
        ("x.yaml", b"- a\n- b\n", "no settings"),
        ("x.yaml", b"\x89PNG\r\n\x1a\n\0\0\0", "zero bytes"),
        ("x.yaml", "größe: 1".encode("latin-1"), "UTF-8"),
        ("x.yaml", b"a: &a\n  b: *a\n", "refers to"),
        ("x.yaml", BOMB.encode(), "more than 20,000"),
        ("x.yaml", b"[" * 3000, "deep"),
        ("x.yaml", b"a: " + b"x" * (1 << 20), "larger than"),
        ("x.yaml", b"a: 1\n---\nb: 2\n", "second document"),
        ("x.json", b'{"a": 1,}', "no JSON"),
        ("x.json", b'{"a": ' * 5000, "no JSON"),
        ("x.json", b"[1, 2]", "no settings"),
        ("x.py", b"def f(:\n", "no Python"),
        ("x.py", b"(" * 3000, "no Python"),
        ("x.yaml", b"colour: red\nsize: 4\n", "no program"),
        ("x.py", b"print('hello')\n", "no trainer"),
        ("x.sh", b"echo hello\n", "no command"),
        ("x.json", b'{"zero_optimization": {"stage": 3}, "fp16": {"enabled": true}}', "no program"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_its_reason(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FineTuneError, match=r"FT-C1[56]") as refused:
        review_file(path)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.json", '{"base_model": NaN, "micro_batch_size": 1e999, "learning_rate": -Infinity, "sequence_len": -0}'),
        ("x.yaml", "base_model: .nan\nmicro_batch_size: 1e999\nlearning_rate: .inf\nsequence_len: -.inf\n"),
        ("x.py", f"from trl import SFTConfig\nSFTConfig(learning_rate=1e400, max_length={'9' * 400}, seed=2 ** 99)\n"),
        ("x.sh", "llamafactory-cli train --do_train --dataset x --learning_rate 1e999 --lora_rank nan 'open"),
    ],
)
def test_numbers_without_bounds_stop_nothing(name: str, text: str, tmp_path: Path) -> None:
    reviewed(tmp_path, name, text, gpu="RTX 4090")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FineTuneError, match="No such file"):
        review_file(tmp_path / "gone.yaml")


def test_tags_of_yaml_make_nothing(tmp_path: Path) -> None:
    """A tag that asks for an object is read as the text behind it."""
    text = SOUND["axolotl.yaml"] + "hub_model_id: !!python/object/apply:os.system ['touch gone']\n"
    assert reviewed(tmp_path, "axolotl.yaml", text).tool == "axolotl"
    assert not Path("gone").exists()


def test_a_script_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    text = f"open({str(mark)!r}, 'w')\n" + SOUND["train_trl.py"]
    reviewed(tmp_path, "train_trl.py", text)
    assert not mark.exists()


def test_a_notebook_is_read_as_its_cells(tmp_path: Path) -> None:
    """The finding stands at the line of the file, in whichever way the cell is written."""
    code = SOUND["train_unsloth.py"].replace("learning_rate=2e-4", "learning_rate=2e-1")
    cells = [
        {"cell_type": "markdown", "source": ["# Train"]},
        {"cell_type": "code", "source": ["%%capture\n", "!pip install unsloth\n"]},
        {"cell_type": "code", "source": "%%bash\nnot python at all ("},
        {"cell_type": "code", "source": code.splitlines(keepends=True)},
    ]
    text = json.dumps({"cells": cells, "nbformat": 4}, indent=1)
    review = reviewed(tmp_path, "train.ipynb", text)
    (finding,) = [finding for finding in review.findings if finding.severity == "error"]
    assert finding.code == "learning_rate"
    assert "learning_rate=2e-1" in text.splitlines()[finding.line - 1]
    with pytest.raises(FineTuneError, match="no cells"):
        reviewed(tmp_path, "empty.ipynb", "{}")


def test_calls_of_several_trainers_are_not_mixed(tmp_path: Path) -> None:
    """Each call's names are looked at; settings that exclude each other must stand in one and the same."""
    script = """\
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
first = SFTConfig(fp16=True, learning_rat=1e-4)
SFTTrainer(model="x", args=first)
second = DPOConfig(bf16=True, beta=0.1)
DPOTrainer(model="x", args=second)
"""
    review = reviewed(tmp_path, "both.py", script)
    assert [(finding.code, finding.line) for finding in review.findings] == [("misspelt_key", 2)]


def test_what_a_script_computes_is_not_judged(tmp_path: Path) -> None:
    script = """\
from trl import SFTConfig, SFTTrainer
from peft import LoraConfig
adapter = LoraConfig(r=16)
arguments = SFTConfig(load_best_model_at_end=True, learning_rate=rate(), bf16=not half, fp16=half, **others)
SFTTrainer(model="x", args=arguments, **more)
"""
    assert not reviewed(tmp_path, "computed.py", script).findings


def test_another_library_has_other_arguments(tmp_path: Path) -> None:
    script = SOUND["train_trl.py"] + "\nfrom mine import GRPOConfig\nGRPOConfig(colour='red', learning_rat=1)\n"
    assert not reviewed(tmp_path, "mine.py", script).findings


def test_several_files_are_reviewed_and_strangers_passed_over(tmp_path: Path) -> None:
    for name, text in {"a.yaml": SOUND["axolotl.yaml"], "b.yaml": "colour: red\n", "c.yaml": "a: [\n"}.items():
        (tmp_path / name).write_text(text)
    reviews, passed_over = review_files(sorted(tmp_path.iterdir()))
    assert [review.tool for review in reviews] == ["axolotl", ""]
    assert [finding.code for finding in reviews[1].findings] == ["unreadable"]
    assert [fault.code for fault in passed_over] == ["C16"]


SARIF_SHAPE = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "$schema": {"type": "string"},
        "runs": {"type": "array", "items": {
            "type": "object", "required": ["tool", "results"],
            "properties": {
                "tool": {"type": "object", "required": ["driver"], "properties": {"driver": {
                    "type": "object", "required": ["name", "rules"],
                    "properties": {"rules": {"type": "array", "items": {"type": "object", "required": ["id"]}}},
                }}},
                "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                "results": {"type": "array", "items": {
                    "type": "object", "required": ["message", "ruleId", "level", "locations"],
                    "properties": {
                        "level": {"enum": ["none", "note", "warning", "error"]},
                        "ruleIndex": {"type": "integer", "minimum": 0},
                        "message": {"type": "object", "required": ["text"]},
                        "locations": {"type": "array", "minItems": 1, "items": {
                            "type": "object", "required": ["physicalLocation"],
                            "properties": {"physicalLocation": {
                                "type": "object", "required": ["artifactLocation", "region"],
                                "properties": {
                                    "artifactLocation": {"type": "object", "required": ["uri"],
                                        "properties": {"uri": {"type": "string", "pattern": "^[^ ]+$"}}},
                                    "region": {"type": "object", "properties": {
                                        "startLine": {"type": "integer", "minimum": 1},
                                        "startColumn": {"type": "integer", "minimum": 1},
                                    }},
                                },
                            }},
                        }},
                    },
                }},
            },
        }},
    },
}  # fmt: skip
"""What SARIF 2.1.0 asks of the parts that are used here."""


def test_sarif_has_the_shape_of_its_standard(tmp_path: Path) -> None:
    text = SOUND["axolotl.yaml"].replace("adapter: lora", "adapter: qlora").replace("num_epochs", "num_epoch")
    review = reviewed(tmp_path, "an axolotl.yaml", text)
    log = json.loads(json.dumps(sarif([review])))
    jsonschema.validate(log, SARIF_SHAPE)
    (run,) = log["runs"]
    assert len(run["results"]) == len(review.findings) >= 2
    rules = run["tool"]["driver"]["rules"]
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in run["results"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**log, "version": "2.0"}, SARIF_SHAPE)


def test_the_guide_names_every_code() -> None:
    """Rewrite with UPDATE_GOLDEN=1 and read the difference."""
    begin, end = "<!-- codes: written by tests/unit/review/test_review.py -->", "<!-- end of codes -->"
    text = GUIDE.read_text(encoding="utf-8")
    table = "\n".join(
        ["| code | meaning |", "|---|---|", *(f"| `{code}` | {title} |" for code, title in CODES.items())]
    )
    written = f"{text[: text.index(begin)]}{begin}\n\n{table}\n\n{text[text.index(end) :]}"
    if os.environ.get("UPDATE_GOLDEN"):
        GUIDE.write_text(written, encoding="utf-8")
    assert GUIDE.read_text(encoding="utf-8") == written


def test_what_an_import_calls_otherwise_is_judged_by_its_own_name(tmp_path: Path) -> None:
    script = SOUND["train_trl.py"].replace("import SFTConfig", "import SFTConfig as Options")
    script = script.replace("=SFTConfig(", "=Options(").replace("= SFTConfig(", "= Options(")
    assert "Options(" in script
    wrong = script.replace("learning_rate=2e-4", "learning_rat=2e-4")
    assert wrong != script
    found = [[finding.code for finding in reviewed(tmp_path, "renamed.py", text).findings] for text in (script, wrong)]
    assert found == [[], ["misspelt_key"]]
