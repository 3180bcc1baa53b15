"""Make a plan's model trainable."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_exe.domain.plan import Plan
from finetune_exe.models.forward import LossFunction
from finetune_exe.models.load import load_model, pick_device, require_training_packages, settle_libraries
from finetune_exe.models.methods import TrainingMethod, training_method

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Model, optimizer and what belongs to them, on their device."""

    model: Any
    method: TrainingMethod
    optimizer: torch.optim.Optimizer
    trainable: list[torch.nn.Parameter]
    losses: LossFunction
    accelerator: Accelerator
    device: str

    @property
    def num_trainable_parameters(self) -> int:
        """Parameters the optimizer moves."""
        return sum(parameter.numel() for parameter in self.trainable)

    @property
    def num_parameters(self) -> int:
        """All parameters, adapters included."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def set_up(plan: Plan, base: Path) -> Setup:
    """Load the base model, attach the method and make the optimizer; everything random follows the plan's seed.

    Raises:
        FineTuneError: X01 for a missing package, M03 where the model cannot be loaded.
    """
    require_training_packages()
    settle_libraries()
    import torch
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    set_seed(plan.seed)
    device = pick_device()
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")
    method = training_method(plan.method)
    dtype = "float32" if plan.method.kind == "full" else plan.precision.base_dtype
    model = method.attach(load_model(base, dtype=dtype, device=device), plan.method, base_name=_base_name(plan, base))
    if plan.precision.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable,
        lr=plan.optimizer.learning_rate,
        betas=(plan.optimizer.beta1, plan.optimizer.beta2),
        weight_decay=plan.optimizer.weight_decay,
    )
    losses = LossFunction(model, plan.precision, device=device)
    model, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    return Setup(
        model=model, method=method, optimizer=optimizer, trainable=trainable,
        losses=losses, accelerator=accelerator, device=device,
    )  # fmt: skip


def versions() -> dict[str, str]:
    """List what a run was made with."""
    names = ("torch", "transformers", "peft", "accelerate", "tokenizers", "finetune-exe")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _base_name(plan: Plan, base: Path) -> str:
    """Name the base in the adapter so that PEFT finds it again: a hub id as it is, anything local by its folder."""
    reference = plan.model.reference
    return str(base.resolve()) if reference == "embedded" or Path(reference).expanduser().exists() else reference
