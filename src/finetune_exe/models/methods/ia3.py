"""IA3 through PEFT: learned factors on what some layers read or write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_exe.domain.plan import Ia3
from finetune_exe.errors import FineTuneError
from finetune_exe.models.methods.adapter_files import Adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Ia3Method(Adapter):
    """Factors on attention and MLP, which begin as ones; everything else is frozen."""

    def attach(self, model: PreTrainedModel, method: Ia3, *, base: Path, base_name: str) -> Any:
        """Put float32 factors at the layers that PEFT names for this architecture.

        Raises:
            FineTuneError: T02 for an architecture that PEFT names no layers of.
        """
        from peft import IA3Config, get_peft_model
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING

        architecture = model.config.model_type
        if architecture not in TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING:
            raise FineTuneError(
                "T02",
                what=f"which layers IA3 scales is not known for models of type {architecture}",
                where="method.kind in the plan",
                why="factors in the wrong places would learn little, and look like training",
                fix="--set method.kind=lora, which goes to every linear layer of any architecture",
            )
        tuned = get_peft_model(model, IA3Config(task_type="CAUSAL_LM"), autocast_adapter_dtype=True)
        tuned.peft_config["default"].base_model_name_or_path = base_name
        return tuned
