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


TOKENS = {"eos_token": "<|end|>", "pad_token": {"content": "<pad>", "lstrip": False}, "chat_template": "{{ messages }}"}


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("tokenizer_config.json", TOKENS, TOKENS | {"eos_token": "</s>"}),
        ("tokenizer_config.json", TOKENS, TOKENS | {"pad_token": "</s>"}),
        ("tokenizer_config.json", TOKENS, TOKENS | {"add_bos_token": True}),
        ("tokenizer_config.json", TOKENS, TOKENS | {"chat_template": "{{ messages[0] }}"}),
        ("tokenizer_config.json", TOKENS, None),
        ("special_tokens_map.json", {"eos_token": "<|end|>"}, {"eos_token": "</s>"}),
        ("generation_config.json", {"eos_token_id": 2}, {"eos_token_id": [2, 7]}),
        ("generation_config.json", None, {"eos_token_id": 2}),
        ("chat_template.jinja", "{{ messages }}", "{{ messages[0] }}"),
    ],
)
def test_other_ends_of_text_and_other_turns_are_another_base(
    tmp_path: Path, file: str, before: object, after: object
) -> None:
    base = write(tmp_path / "a")

    def put(content: object) -> None:
        if content is None:
            (base / file).unlink(missing_ok=True)
        else:
            (base / file).write_text(content if isinstance(content, str) else json.dumps(content))

    put(before)
    recorded = fingerprint(base)
    put(after)
    assert not is_base(base, recorded)
    put(before)
    assert is_base(base, recorded)


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
    (base / "tokenizer_config.json").write_text(json.dumps(TOKENS))
    (base / "generation_config.json").write_text('{"eos_token_id": 2, "transformers_version": "4.57.1"}')
    recorded = fingerprint(base)
    written_again = {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers", **TOKENS, "pad_token": "<pad>"}
    (base / "tokenizer_config.json").write_text(json.dumps(written_again))
    (base / "generation_config.json").write_text('{"transformers_version": "5.0.0", "eos_token_id": 2}')
    assert is_base(base, recorded)


def test_what_earlier_checkpoints_recorded_is_known_again(tmp_path: Path) -> None:
    base = write(tmp_path / "a")
    assert is_base(base, EARLIER)
    assert is_base(base, WITHOUT_SETTINGS)
    (base / "tokenizer_config.json").write_text(json.dumps(TOKENS))
    assert is_base(base, WITHOUT_SETTINGS)
    (base / "tokenizer_config.json").unlink()
    write(base, TENSORS | {"layers.1.weight": -TENSORS["layers.1.weight"]})
    assert not is_base(base, EARLIER)
    assert not is_base(base, WITHOUT_SETTINGS)


EARLIER = "47cff573d51819222f7e3eb4886bb0e6"
"""Of the same folder, as the program named it until November 2026."""
WITHOUT_SETTINGS = "a768f0a0184ea485afadeb2a4dca3448"
"""The same by the program of 27 November 2026."""
