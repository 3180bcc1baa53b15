"""Training scripts are read by their syntax, changed in one place, and never run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.diagnosis.config import changed, read_config
from finetune_exe.diagnosis.script import read_script, set_in_script

SCRIPT = """\
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

open("ran", "w").close()
RATE = 2e-2  # much
# learning_rate=9 is what a comment says, "max_length=9" a text
note = "learning_rate=8, max_length=8"
tokenizer = AutoTokenizer.from_pretrained("org/tokenizer")
tokenizer.chat_template = "{{ messages }}"
model = AutoModelForCausalLM.from_pretrained("org/model-é", dtype=torch.float16)
args = SFTConfig(
    output_dir="out",
    learning_rate=RATE,
    num_train_epochs=20,
    model_init_kwargs={"attn_implementation": "eager"},
    max_length=512,  # as long as that
)
trainer = SFTTrainer(model, args=args, peft_config=LoraConfig(r=8, lora_dropout=0.0))
trainer.train()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def given_to(text: str) -> dict[str, object]:
    """Read keywords of all calls as Python's own parser sees them."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return {word.arg: ast.unparse(word.value) for call in calls for word in call.keywords if word.arg}


def test_settings_are_those_of_calls_and_constants_not_of_texts_and_comments(path: Path) -> None:
    config = read_config(path)
    assert config is not None
    assert config.tool == "trl"
    settings = config.settings
    expected = {"optimizer.learning_rate": 0.02, "schedule.epochs": 20, "data.max_length": 512, "method.lora_rank": 8,
                "model.reference": "org/model-é", "precision.base_dtype": "float16"}  # fmt: skip
    assert expected.items() <= settings.items()
    assert "method.kind" not in settings
    assert not (path.parent / "ran").exists()


def test_lines_are_those_an_editor_shows(path: Path) -> None:
    config = read_config(path)
    assert config is not None
    lines = SCRIPT.splitlines()
    for setting, words in (("data.max_length", "max_length=512"), ("precision.base_dtype", "torch.float16"),
                           ("method.lora_rank", "r=8"), ("optimizer.learning_rate", "RATE = 2e-2")):  # fmt: skip
        line = config.line_of(setting)
        assert line is not None
        assert words in lines[line - 1]


def test_values_change_where_they_stand_and_keywords_are_added_where_there_are_none(path: Path) -> None:
    config = read_config(path)
    assert config is not None
    patch = {"optimizer.learning_rate": 1e-4, "precision.base_dtype": "bfloat16", "checkpoints.keep_last": 1,
             "method.lora_dropout": 0.05, "schedule.epochs": 3.0}  # fmt: skip
    new = changed(config, patch, own_keys={"save_only_model": True, ".chat_template": None})
    before, after = set(SCRIPT.splitlines()), set(new.splitlines())
    assert before - after == {
        "RATE = 2e-2  # much", 'tokenizer.chat_template = "{{ messages }}"', "    num_train_epochs=20,",
        'model = AutoModelForCausalLM.from_pretrained("org/model-é", dtype=torch.float16)',
        "trainer = SFTTrainer(model, args=args, peft_config=LoraConfig(r=8, lora_dropout=0.0))",
    }  # fmt: skip
    assert after - before == {
        "RATE = 0.0001  # much", "    num_train_epochs=3.0,", "    bf16=True,", "    save_total_limit=1,",
        "    save_only_model=True,",
        'model = AutoModelForCausalLM.from_pretrained("org/model-é", dtype=torch.bfloat16)',
        "trainer = SFTTrainer(model, args=args, peft_config=LoraConfig(r=8, lora_dropout=0.05))",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("SFTConfig()", "SFTConfig(a=1)"),
        ("SFTConfig(output_dir='o')", "SFTConfig(output_dir='o', a=1)"),
        ("SFTConfig(output_dir='o',)", "SFTConfig(output_dir='o', a=1,)"),
        ("SFTConfig(\n    output_dir='o'\n)", "SFTConfig(\n    output_dir='o',\n    a=1,\n)"),
        ("SFTConfig(\n    output_dir='o',\n)", "SFTConfig(\n    output_dir='o',\n    a=1,\n)"),
        ("SFTConfig(\n  output_dir='o')", "SFTConfig(\n  output_dir='o',\n  a=1,)"),
        ("SFTConfig(**known)", "SFTConfig(**known, a=1)"),
        ("f(a=2)", "f(a=1)"),
        ("f(b=2)", "f(b=2)"),
        ("parser.add_argument('--a', type=int, default=7)", "parser.add_argument('--a', type=int, default=1)"),
        ("settings = {'a': 5}", "settings = {'a': 1}"),
        ("a = = 1", "a = = 1"),
    ],
)
def test_a_keyword_goes_where_a_person_would_write_it(text: str, wanted: str) -> None:
    assert set_in_script(text, "a", 1) == wanted


@given(st.sampled_from(sorted({"learning_rate", "num_train_epochs", "max_length", "save_steps", "r", "lora_dropout"})),
       st.one_of(st.integers(-9, 10**6), st.floats(0, 1), st.booleans(), st.none(), st.text(max_size=9)))  # fmt: skip
def test_python_reads_back_what_was_set_and_all_else_as_it_was(name: str, value: object) -> None:
    new = set_in_script(SCRIPT.replace("RATE,", "5e-3,"), name, value)  # type: ignore[arg-type]
    before, after = given_to(SCRIPT.replace("RATE,", "5e-3,")), given_to(new)
    assert ast.literal_eval(str(after.pop(name))) == value
    for each in (before, after):
        each.pop(name, None)
        each.pop("peft_config")  # it holds r and lora_dropout
    assert after == before


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    script = read_script(text)
    assert script is None or set_in_script(text, "learning_rate", 0.1) is not None
