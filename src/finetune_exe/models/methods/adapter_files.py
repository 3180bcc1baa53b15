"""What a trained adapter is on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetune_exe.models.load import Dtype, load_base


class Adapter:
    """Saves and loads whatever PEFT puts beside a frozen model."""

    def save(self, model: Any, folder: Path) -> None:
        """Write adapter_config.json and adapter_model.safetensors, as PEFT reads them, and no more."""
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)

    def load(self, folder: Path, base: Path, method: Any, *, dtype: Dtype, device: str) -> Any:
        """Load what was learned, in float32 as it was trained, onto its base."""
        from peft import PeftModel

        return PeftModel.from_pretrained(load_base(base, method, dtype=dtype, device=device), folder).eval()
