"""What a fine-tuning method is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from finetune_exe.models.load import Dtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TrainingMethod(Protocol):
    """One way of fine-tuning, as an entry of `METHODS`."""

    def attach(self, model: PreTrainedModel, method: Any, *, base: Path, base_name: str) -> Any:
        """Return the model with its trainable parameters in float32.

        Args:
            model: The base model as `load_base` gives it.
            method: The method's settings in the plan.
            base: Folder of the base model.
            base_name: How an adapter names its base.
        """

    def save(self, model: Any, folder: Path) -> None:
        """Write what was learned into an empty folder."""

    def load(self, folder: Path, base: Path, method: Any, *, dtype: Dtype, device: str) -> Any:
        """Return base model and what was learned together, computing as in training, ready to evaluate."""
