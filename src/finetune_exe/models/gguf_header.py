"""What the header of a GGUF file says of its model, read without the weights and without the words of its tokenizer."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
"""Kinds of values. Source: ggml, docs/gguf.md, gguf_metadata_value_type."""
_MODEL_TYPES = {"qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "gemma3": "gemma3_text", "gpt-oss": "gpt_oss"}
"""What transformers calls architectures that llama.cpp calls otherwise."""
_NAMES = {
    "num_hidden_layers": "block_count", "hidden_size": "embedding_length", "intermediate_size": "feed_forward_length",
    "moe_intermediate_size": "expert_feed_forward_length", "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count", "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv", "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length", "vocab_size": "vocab_size",
}  # fmt: skip
"""What config.json calls a dimension, and a GGUF file behind the architecture. Source: ggml, docs/gguf.md."""


class GgufTensor(NamedTuple):
    """A tensor of the file."""

    name: str
    num_dimensions: int
    kind: int
    """Number of its format, as `ggml_type`: 2 is Q4_0, 3 Q4_1, 39 MXFP4."""


class GgufHeader(NamedTuple):
    """What stands before the weights."""

    fields: Mapping[str, str | int | float | bool]
    """Values by name; of a list how many there are."""
    tensors: tuple[GgufTensor, ...]

    def config(self) -> dict[str, Any]:
        """Give the model's dimensions as config.json names them, as far as they are told."""
        architecture = str(self.fields.get("general.architecture"))
        config = {ours: self.fields.get(f"{architecture}.{theirs}") for ours, theirs in _NAMES.items()}
        return {
            **{name: value for name, value in config.items() if value is not None},
            **({"vocab_size": words} if (words := self.fields.get("tokenizer.ggml.tokens")) else {}),
            "model_type": _MODEL_TYPES.get(architecture, architecture),
            "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in self.tensors),
        }


def read_gguf_header(path: Path) -> GgufHeader | None:
    """Read a file's header; None where it is none, or damaged: loading says what is wrong with it."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Reader(content).header()
    except (OSError, ValueError, struct.error):
        return None


class _Reader:
    """Reads one value after the other."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._place = content, 0

    def header(self) -> GgufHeader:
        magic, version = self._content[:4], self._numbers("<4xI")[0]
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError("no GGUF file of a known version")
        num_tensors, num_fields = self._numbers("<QQ")
        fields = {self._string(): self._value() for _ in self._times(num_fields)}
        return GgufHeader(fields, tuple(self._tensor() for _ in self._times(num_tensors)))

    def _tensor(self) -> GgufTensor:
        name, (num_dimensions,) = self._string(), self._numbers("<I")
        self._skip(8 * num_dimensions)
        kind, _ = self._numbers("<IQ")
        return GgufTensor(name, num_dimensions, kind)

    def _value(self) -> str | int | float | bool:
        (kind,) = self._numbers("<I")
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            value: int | float | bool = self._numbers(f"<{_scalar(kind)}")[0]
            return value
        kind, count = self._numbers("<IQ")
        if kind == _STRING:
            for _ in self._times(count):
                self._skip(self._numbers("<Q")[0])
        else:
            self._skip(count * struct.calcsize(f"<{_scalar(kind)}"))
        return int(count)

    def _string(self) -> str:
        start = self._place + 8
        self._skip(self._numbers("<Q")[0])
        return self._content[start : self._place].decode("utf-8", errors="replace")

    def _numbers(self, layout: str) -> tuple[Any, ...]:
        numbers = struct.unpack_from(layout, self._content, self._place)
        self._place += struct.calcsize(layout)
        return numbers

    def _times(self, count: int) -> range:
        """Count to a number of things that take a byte each at least."""
        if count > len(self._content):
            raise ValueError("more entries than the file has bytes")
        return range(count)

    def _skip(self, num_bytes: int) -> None:
        self._place += num_bytes
        if self._place > len(self._content):
            raise ValueError("the file ends within its header")


def _scalar(kind: int) -> str:
    if kind not in _SCALARS:
        raise ValueError(f"values of kind {kind} are not known")
    return _SCALARS[kind]
