"""The kinds of fine-tuning and what people call them."""

from __future__ import annotations

from typing import Literal

MethodKind = Literal["full", "lora", "qlora", "prefix", "prompt", "ia3"]

METHOD_NAMES: dict[MethodKind, str] = {
    "full": "Full",
    "lora": "LoRA",
    "qlora": "QLoRA",
    "prefix": "Prefix Tuning",
    "prompt": "Prompt Tuning",
    "ia3": "IA3",
}
METHOD_PHRASES: dict[MethodKind, str] = {
    **METHOD_NAMES,
    "full": "full training",
    "prefix": "prefix tuning",
    "prompt": "prompt tuning",
}
"""The names as they stand inside a sentence."""


def method_kind(value: object) -> MethodKind:
    """Read a kind of method out of a setting that was checked before."""
    for kind in METHOD_NAMES:
        if kind == value:
            return kind
    raise AssertionError(value)
