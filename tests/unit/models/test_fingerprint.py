"""A base model that changed is noticed, whichever tensor it was; what cannot change it is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from finetune_exe.models.fingerprint import fingerprint, is_base

TENSORS = {f"layers.{n}.weight": np.arange(n, n + 400_000, dtype=np.float32) for n in range(3)}
TENSORS["norm.weight"] = np.ones(64, dtype=np.float32)
CONFIG = {"model_type": "llama", "hidden_size": 64, "transformers_version": "4.57.1"}


def write(folder: Path, tensors: dict[str, np.ndarray] = TENSORS, **settings: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | settings))
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
    save_file(tensors, folder / "model.safetensors")
    assert (folder / "model.safetensors").stat().st_size > 1 << 22
    return folder


@pytest.mark.parametrize("name", TENSORS)
def test_another_tensor_is_another_base(tmp_path: Path, name: str) -> None:
    before = fingerprint(write(tmp_path / "a"))
    trained = TENSORS | {name: TENSORS[name] + np.float32(0.001) * (1 + np.arange(TENSORS[name].size) % 2)}
    assert (
        fingerprint(write(tmp_path / "b", {key: value.astype(np.float32) for key, value in trained.items()})) != before
    )
    assert fingerprint(write(tmp_path / "c")) == before


def test_other_settings_and_tokens_are_another_base(tmp_path: Path) -> None:
    base = write(tmp_path / "a")
    recorded = fingerprint(base)
    write(base, rope_theta=500000.0)
    assert not is_base(base, recorded)
    write(base)
    assert is_base(base, recorded)
    (base / "tokenizer.json").write_text('{"model": {"vocab": {"b": 0}}}')
    assert not is_base(base, recorded)


@pytest.mark.parametrize("damaged", ["", "{", "[]", "null", "[" * 100_000])
def test_a_damaged_configuration_is_another_base(tmp_path: Path, damaged: str) -> None:
    base = write(tmp_path / "a")
    recorded = fingerprint(base)
    (base / "config.json").write_text(damaged)
    assert not is_base(base, recorded)


def test_what_cannot_change_the_model_is_left_out(tmp_path: Path) -> None:
    base = write(tmp_path / "a")
    recorded = fingerprint(base)
    write(base, transformers_version="5.0.0")
    (base / "README.md").write_text("# A model")
    (base / "trainer_state.json").write_text("{}")
    assert is_base(base, recorded)


def test_what_earlier_checkpoints_recorded_is_known_again(tmp_path: Path) -> None:
    base = write(tmp_path / "a")
    assert is_base(base, EARLIER)
    write(base, TENSORS | {"layers.1.weight": -TENSORS["layers.1.weight"]})
    assert not is_base(base, EARLIER)


EARLIER = "47cff573d51819222f7e3eb4886bb0e6"
"""Of the same folder, as the program named it until November 2026."""
