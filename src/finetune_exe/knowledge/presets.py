"""The specification's three columns of hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from finetune_exe.domain.task import PresetName
from finetune_exe.knowledge.rows import read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One column."""

    name: PresetName
    learning_rate: float
    epochs: float
    batch_size: int
    """Rows in one optimizer step."""
    lora_rank: int
    warmup_fraction: float
    source: str
    date: date


def find_preset(name: PresetName) -> Preset:
    """Give a column by its name."""
    return next(preset for preset in read_rows("presets.toml", key="preset", kind=Preset) if preset.name == name)
