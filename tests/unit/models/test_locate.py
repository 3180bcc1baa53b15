"""Base models are found by whatever name, or the message says what to give."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tests.tiny import write_model

from finetune_exe.errors import FineTuneError
from finetune_exe.models.load import load_model
from finetune_exe.models.locate import folder_at_hand, model_folder


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    assert model_folder(str(folder)) == folder


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "justaname", "a/b/c"])
def test_what_is_no_model_is_said_to_be_none(name: str) -> None:
    with pytest.raises(FineTuneError, match=r"error\[FT-M01\]"):
        model_folder(name)


def test_a_hub_id_that_cannot_be_fetched_is_an_error_not_a_traceback() -> None:
    with pytest.raises(FineTuneError, match=r"error\[FT-M01\]") as caught:
        model_folder("nobody-at-all/no-such-model")
    assert "hf auth login" in caught.value.fix


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(FineTuneError, match=r"error\[FT-M03\]") as caught:
        model_folder(str(folder))
    assert "pytorch_model.bin" in caught.value.why


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(FineTuneError, match=r"error\[FT-M03\]"):
        load_model(folder, dtype="float32", device="cpu")


def test_a_model_without_some_of_its_weights_is_no_base(tmp_path: Path) -> None:
    """transformers fills them with random numbers and says so in a log that nobody reads."""
    folder = write_model(tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.self_attn.q_proj.weight"], weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FineTuneError, match=r"error\[FT-M03\]") as caught:
        load_model(folder, dtype="float32", device="cpu")
    assert "2 of its tensors, model.layers.1.self_attn.q_proj.weight among them" in caught.value.what


def in_shards(folder: Path) -> list[Path]:
    """Cut the weights of a model up into several files; list those."""
    model = load_model(folder, dtype="float32", device="cpu")
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="30KB")
    return sorted(folder.glob("*.safetensors"))


def test_every_file_of_a_model_in_several_has_to_be_there(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    first, second, *_ = in_shards(folder)
    assert model_folder(str(folder)) == folder
    second.unlink()
    with pytest.raises(FineTuneError, match=r"error\[FT-M03\]") as caught:
        model_folder(str(folder))
    assert second.name in caught.value.what
    assert first.name not in caught.value.what
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(FineTuneError, match=r"error\[FT-M03\]: .*readable model.safetensors.index.json"):
        model_folder(str(folder))


def test_at_hand_is_only_what_needs_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_EXE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = write_model(tmp_path / "m")
    assert folder_at_hand(str(folder)) == folder
    assert folder_at_hand("embedded") is None
    assert folder_at_hand("owner/name") is None
    assert folder_at_hand("./nowhere") is None
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    refs = tmp_path / "hub" / "models--owner--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    assert folder_at_hand("owner/name") == snapshot
