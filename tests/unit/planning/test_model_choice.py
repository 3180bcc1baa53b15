"""Base models by embedded name, folder, file, hub id and known name."""

import json
from pathlib import Path

import pytest

from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.models import find_model
from finetune_exe.planning.model import describe_model

LLAMA = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024}


def test_the_embedded_model_is_known() -> None:
    model = describe_model("embedded")
    assert (model.reference, model.name) == ("embedded", "SmolLM2-135M-Instruct")
    assert (model.num_parameters, model.context_length, model.license) == (134_515_008, 8192, "Apache-2.0")


@pytest.mark.parametrize(("config", "name"), [(LLAMA, "SmolLM2-135M-Instruct"), (GPT2, "gpt2")])
def test_a_folder_is_read(tmp_path: Path, config: dict[str, object], name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = describe_model(str(tmp_path))
    assert model.shape == find_model(name).shape
    assert model.context_length == find_model(name).context_length
    assert model.name == tmp_path.name


def test_a_folder_of_another_kind_has_no_shape(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    assert describe_model(str(tmp_path)).shape is None


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_folder_without_a_readable_configuration_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(FineTuneError, match="FT-M03"):
        describe_model(str(tmp_path))


def test_a_gguf_file_is_taken_without_a_shape(tmp_path: Path) -> None:
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    assert describe_model(str(tmp_path / "small.gguf")).shape is None


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("meta-llama/Llama-3.1-8B", "Meta-Llama-3.1-8B"),
        ("meta-llama/Llama-3.1-8B-Instruct", "Llama-3.1-8B-Instruct"),
        ("someone/something", "something"),
    ],
)
def test_a_hub_id_stays_as_it_is(reference: str, name: str) -> None:
    model = describe_model(reference)
    assert (model.reference, model.name) == (reference, name)


@pytest.mark.parametrize("reference", ["./absent", "/no/such/folder", "absent.gguf", "a/b/c", "no such model"])
def test_what_is_not_there_is_refused(reference: str) -> None:
    with pytest.raises(FineTuneError, match="FT-M01"):
        describe_model(reference)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(FineTuneError, match="no GGUF file"):
        describe_model(str(tmp_path / "model.bin"))
