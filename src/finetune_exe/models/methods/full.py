"""Full fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_exe.domain.plan import Full
from finetune_exe.models.load import Dtype, load_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class FullMethod:
    """Every weight trains, from float32 on; the optimizer says in what they are kept so that small updates survive."""

    def attach(self, model: PreTrainedModel, method: Full, *, base: Path, base_name: str) -> Any:
        """Make every weight trainable in float32."""
        return model.float().requires_grad_(True)

    def save(self, model: Any, folder: Path) -> None:
        """Write the whole model as safetensors."""
        model.save_pretrained(folder)

    def load(self, folder: Path, base: Path, method: Full, *, dtype: Dtype, device: str) -> Any:
        """Load the tuned model; the base plays no part."""
        return load_model(folder, dtype=dtype, device=device).eval()
