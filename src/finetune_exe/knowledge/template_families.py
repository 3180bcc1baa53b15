"""Which family of models a chat template is made for, by the names that programs and people give to both."""

from __future__ import annotations

import re

_FAMILIES = {
    "llama3": r"llama[-_]?3", "llama2": r"llama[-_]?2", "qwen": r"qwen", "mistral": r"mi[sx]tral|ministral",
    "gemma": r"gemma", "phi": r"\bphi(?![a-z])", "glm": r"glm", "deepseek": r"deepseek",
    "internlm": r"\bintern(lm)?(?![a-z])", "baichuan": r"baichuan", "yi": r"\byi\b", "falcon": r"falcon",
}  # fmt: skip
"""Families of models by what their names, and the names of their templates, hold."""


def families_named(name: str) -> set[str]:
    """Give the families that a name of a model, or of a template, speaks of."""
    return {family for family, pattern in _FAMILIES.items() if re.search(pattern, name.lower())}
