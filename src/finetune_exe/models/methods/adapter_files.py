"""What a trained adapter is on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save_adapter(model: Any, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors into an empty folder, as PEFT reads them, and no more."""
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
