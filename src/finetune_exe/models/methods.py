"""Fine-tuning methods: how a base model is made trainable, saved and loaded again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from finetune_exe.domain.plan import Full, Lora, Method
from finetune_exe.models.load import load_model, torch_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TrainingMethod(Protocol):
    """One way of fine-tuning, as an entry of `METHODS`."""

    kind: str

    def attach(self, model: PreTrainedModel, method: Any, *, base_name: str) -> Any:
        """Return the model with its trainable parameters in float32; `base_name` is how the adapter names its base."""

    def save(self, model: Any, folder: Path) -> None:
        """Write what was learned into an empty folder."""

    def load(self, folder: Path, base: Path, *, dtype: Any, device: str) -> Any:
        """Return base model and what was learned together, ready to evaluate."""


class LoraMethod:
    """Low-rank adapters through PEFT."""

    kind = "lora"

    def attach(self, model: PreTrainedModel, method: Lora, *, base_name: str) -> Any:
        """Put float32 adapters beside the linear layers; everything else is frozen."""
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=method.lora_rank,
            lora_alpha=method.lora_alpha,
            lora_dropout=method.lora_dropout,
            target_modules=method.target_modules
            if isinstance(method.target_modules, str)
            else list(method.target_modules),
            task_type="CAUSAL_LM",
        )
        tuned = get_peft_model(model, config, autocast_adapter_dtype=True)
        tuned.peft_config["default"].base_model_name_or_path = base_name
        return tuned

    def save(self, model: Any, folder: Path) -> None:
        """Write adapter_config.json and adapter_model.safetensors, as PEFT reads them."""
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)

    def load(self, folder: Path, base: Path, *, dtype: Any, device: str) -> Any:
        """Load the adapter onto its base, in the base's number format, in which training computed it too."""
        from peft import PeftModel

        model = PeftModel.from_pretrained(load_model(base, dtype=dtype, device=device), folder)
        return model.to(torch_dtype(dtype)).eval()


class FullMethod:
    """Every weight trains, kept in float32 so that small updates are not rounded away."""

    kind = "full"

    def attach(self, model: PreTrainedModel, method: Full, *, base_name: str) -> Any:
        """Make every weight trainable in float32."""
        return model.float().requires_grad_(True)

    def save(self, model: Any, folder: Path) -> None:
        """Write the whole model as safetensors."""
        model.save_pretrained(folder)

    def load(self, folder: Path, base: Path, *, dtype: Any, device: str) -> Any:
        """Load the tuned model; the base plays no part."""
        return load_model(folder, dtype=dtype, device=device).eval()


METHODS: dict[str, TrainingMethod] = {entry.kind: entry for entry in (LoraMethod(), FullMethod())}


def training_method(method: Method) -> TrainingMethod:
    """Look up the implementation of a plan's method."""
    return METHODS[method.kind]
