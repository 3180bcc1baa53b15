"""Headers of GGUF files: the dimensions they tell, and files that are none or are damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType, GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.models.test_gguf import CONFIGS, made, write

from finetune_exe.models.gguf_header import read_gguf_header
from finetune_exe.models.locate import embedded_gguf
from finetune_exe.planning.grid import own_grid
from finetune_exe.planning.model import describe_model
from finetune_exe.planning.model_config import config_shape


@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_file_tells_the_dimensions_of_its_model(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    path = write(made(config, tmp_path), tmp_path)
    described = describe_model(str(path))
    assert described.shape == config_shape(config.to_dict()) is not None
    assert (described.name, described.context_length) == ("model", 128)
    assert own_grid(str(path)) is None


def test_the_embedded_file_tells_what_is_known_of_its_model() -> None:
    """Tensors, counts and numbers as the format's own package reads them."""
    path = embedded_gguf()
    header, theirs = read_gguf_header(path), GGUFReader(path)
    assert header is not None
    assert [(t.name, t.num_dimensions, GGMLQuantizationType(t.kind)) for t in header.tensors] == [
        (t.name, len(t.shape), t.tensor_type) for t in theirs.tensors
    ]
    for name, field in theirs.fields.items():
        if not name.startswith("GGUF."):
            found = header.fields[name]
            assert found == (len(field.data) if field.types[0].name == "ARRAY" else field.contents()), name
    known = describe_model("embedded")
    described = describe_model(str(path))
    assert (described.shape, described.num_parameters) == (known.shape, known.num_parameters)


def small_file(folder: Path) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    words = struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc")
    numbers = struct.pack("<IIQ3H", 9, 2, 3, 1, 2, 3)
    fields = [
        text("general.architecture") + struct.pack("<I", 8) + text("qwen3moe"),
        text("qwen3moe.block_count") + struct.pack("<II", 4, 7),
        text("tokenizer.ggml.tokens") + words,
        text("some.numbers") + numbers,
    ]
    tensor = text("output.weight") + struct.pack("<IQQIQ", 2, 32, 4, 39, 0)
    return b"GGUF" + struct.pack("<IQQ", 3, 1, len(fields)) + b"".join(fields) + tensor


def test_lists_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    path.write_bytes(small_file(tmp_path))
    header = read_gguf_header(path)
    assert header is not None
    assert header.fields["some.numbers"] == 3
    assert header.config() == {
        "num_hidden_layers": 7, "vocab_size": 2, "model_type": "qwen3_moe", "tie_word_embeddings": False
    }  # fmt: skip
    assert own_grid(str(path)) == "mxfp4"


def test_a_file_that_is_cut_off_anywhere_is_none(tmp_path: Path) -> None:
    whole = small_file(tmp_path)
    for length in range(len(whole)):
        path = tmp_path / f"{length}.gguf"
        path.write_bytes(whole[:length])
        assert read_gguf_header(path) is None
        assert describe_model(str(path)).shape is None


@given(place=st.integers(0, 200), value=st.integers(0, 255))
@settings(max_examples=300, deadline=2000)
def test_a_damaged_byte_neither_crashes_nor_takes_long(
    place: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(small_file(Path()))
    content[place % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(content)
    read_gguf_header(path)
    describe_model(str(path))
