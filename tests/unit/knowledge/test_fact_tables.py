"""Every fact has a source and a date, and agrees with the tables it was taken from."""

import json
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from finetune_exe.knowledge.gpus import gpu_facts
from finetune_exe.knowledge.models import model_facts
from finetune_exe.knowledge.task_signs import task_signs

TRUTH = Path(__file__).resolve().parents[3] / ".." / "shared" / "truth"


def truth(name: str, key: str) -> Any:
    if not (TRUTH / name).exists():
        pytest.skip(f"the reference table {name} is not on this machine")
    return json.loads((TRUTH / name).read_text())[key]


def test_every_row_has_a_source_and_a_date() -> None:
    tables = [file for file in files("finetune_exe.knowledge").iterdir() if file.name.endswith(".toml")]
    assert len(tables) >= 6
    for table in tables:
        for rows in tomllib.loads(table.read_text("utf-8")).values():
            assert all(row["source"] and row["date"] for row in rows), table.name


def test_models_agree_with_the_reference_table() -> None:
    published = {model["hub_id"]: model for model in truth("model_configs.json", "models").values()}
    for facts in model_facts():
        model = published[facts.base_reference]
        assert facts.hidden_size == model["hidden_size"]
        assert facts.num_layers == model["n_layers"]
        assert facts.num_key_value_heads == model["n_kv_heads"]
        assert facts.vocab_size == model["vocab_size"]
        assert facts.context_length == model["context_length"]


def test_gpus_agree_with_the_reference_table() -> None:
    published = {gpu["name"]: gpu for gpu in truth("gpus.json", "gpus")}
    for facts in gpu_facts():
        assert facts.memory_gib == published[facts.name]["memory_gib"]
        assert facts.bf16_tflops == (published[facts.name]["tflops_bf16_dense"] or 0)
        assert facts.bf16 == published[facts.name]["bf16_native"]


def test_no_sign_of_a_task_is_found_in_nothing() -> None:
    assert not any(sign.pattern.search("") for sign in task_signs())
