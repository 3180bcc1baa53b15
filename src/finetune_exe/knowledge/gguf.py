"""What llama.cpp can read of a model in transformers' form."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache

from finetune_exe.knowledge.rows import read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufArchitecture:
    """One kind of model."""

    model_type: str
    """As config.json calls it."""
    name: str
    """As llama.cpp calls it."""
    interleaved: bool
    """Whether llama.cpp rotates neighbouring numbers of queries and keys, where transformers rotates halves."""
    source: str
    date: date


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCutting:
    """One way to cut text into words before byte-level BPE."""

    name: str
    """As llama.cpp calls it."""
    steps: tuple[str, ...]
    """Kinds of the pre-tokenizer's steps, in order."""
    pattern: str
    """First 32 hex digits of the SHA-256 of the regular expression of its Split; empty where it has none."""
    source: str
    date: date


@cache
def _architectures() -> dict[str, GgufArchitecture]:
    return {row.model_type: row for row in read_rows("gguf.toml", key="architecture", kind=GgufArchitecture)}


def gguf_architecture(model_type: str) -> GgufArchitecture | None:
    """Give what llama.cpp makes of a model type; None where it cannot be written."""
    return _architectures().get(model_type)


def gguf_model_types() -> tuple[str, ...]:
    """Name the model types that can be written."""
    return tuple(_architectures())


@cache
def text_cuttings() -> tuple[TextCutting, ...]:
    """Give the ways to cut text."""
    return read_rows("gguf.toml", key="cutting", kind=TextCutting)
