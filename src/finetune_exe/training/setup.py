"""Make a plan's model trainable."""

from __future__ import annotations

import platform
import random
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune_exe.domain.plan import Dpo, Plan, Qlora
from finetune_exe.models.forward import LossFunction, require_finite
from finetune_exe.models.load import choose_attention, load_base, pick_device, settle_libraries
from finetune_exe.models.methods import TrainingMethod, training_method
from finetune_exe.models.packing import Arrangement, require_packing
from finetune_exe.models.places import packed_away
from finetune_exe.models.preference import PreferenceLoss
from finetune_exe.models.ranks import ALONE, Ranks, current_ranks
from finetune_exe.models.rounding import offset_rounding
from finetune_exe.training.optimizers import make_optimizer, parameter_groups
from finetune_exe.training.preflight import check_trainable, needs_bitsandbytes
from finetune_exe.training.sharding import ShardedLosses

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Model, optimizer and what belongs to them, on their device."""

    model: Any
    method: TrainingMethod
    optimizer: torch.optim.Optimizer
    trainable: list[torch.nn.Parameter]
    losses: LossFunction | PreferenceLoss | ShardedLosses
    scaler: torch.amp.GradScaler
    """Keeps gradients of float16 from vanishing; in other formats it does nothing."""
    device: str
    arrangement: Arrangement
    """How the rows of a pass are put together: as the plan says, and as closely as the model can be told."""
    ranks: Ranks = ALONE

    @property
    def num_trainable_parameters(self) -> int:
        """Parameters the optimizer moves."""
        return sum(parameter.numel() for parameter in self.trainable)

    @property
    def num_parameters(self) -> int:
        """All parameters, adapters included; one kept in 4 bit counts like any other."""
        from peft import PeftModel

        if isinstance(self.model, PeftModel):
            return int(self.model.get_nb_trainable_parameters()[1]) + packed_away(self.model)
        return sum(parameter.numel() for parameter in self.model.parameters())


def set_up(plan: Plan, base: Path) -> Setup:
    """Load the base model, attach the method and make the optimizer; everything random follows the plan's seed.

    Raises:
        FineTuneError: T01 where the base overflows the plan's format, T02 where the plan cannot be trained here, X01
            for a missing package, M03 where the model cannot be loaded.
    """
    check_trainable(plan)
    settle_libraries()
    import torch

    from finetune_exe.models.passes import compute_in_fewer_passes

    torch.backends.cuda.matmul.fp32_precision = "ieee"  # what is tried on the model is held against float32
    _seed_everything(plan.seed)
    device = pick_device()
    method = training_method(plan.method)
    dtype = "float32" if plan.method.kind == "full" else plan.precision.base_dtype
    ranks = replace(current_ranks(), is_sharded=plan.parallelism.kind == "fsdp")
    at_first = "cpu" if ranks.is_sharded else device  # the whole of it may fit no GPU
    model = load_base(base, plan.method, dtype=dtype, device=at_first)
    require_finite(model, plan.precision, device=at_first)
    choose_attention(model, packing=plan.batch.packing)
    arrangement = require_packing(model) if plan.batch.packing else "side by side"
    model = method.attach(model, plan.method, base=base, base_name=_base_name(plan, base))
    if isinstance(plan.method, Qlora) and plan.method.offset_rounding and ranks.is_first:
        offset_rounding(model, base, dtype=dtype)
    compute_in_fewer_passes(model)
    if plan.precision.gradient_checkpointing:
        recompute(model, every=plan.precision.checkpoint_every_layers)
    plain = LossFunction(model, plan.precision, device=at_first, ranks=ranks)
    ranks.begin_alike(parameter for parameter in model.parameters() if parameter.requires_grad)
    losses = _losses(plan, plain, device=device)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = parameter_groups(model.named_parameters(), plan.method, weight_decay=plan.optimizer.weight_decay)
    optimizer = make_optimizer(plan.optimizer, groups, plan.method)
    scaler = torch.amp.GradScaler(device, enabled=plan.precision.base_dtype == "float16")
    model.train()
    torch.backends.cuda.matmul.fp32_precision = "tf32" if plan.precision.tf32 else "ieee"
    return Setup(
        model=model, method=method, optimizer=optimizer, trainable=trainable,
        losses=losses, scaler=scaler, device=device, arrangement=arrangement, ranks=ranks,
    )  # fmt: skip


def _seed_everything(seed: int) -> None:
    """Let all random numbers follow from a seed, those of every GPU too."""
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _losses(plan: Plan, plain: LossFunction, *, device: str) -> LossFunction | PreferenceLoss | ShardedLosses:
    """Put around the losses of tokens what the plan's objective, or a model cut up among processes, needs."""
    losses = ShardedLosses(plain, device=device) if plain.ranks.is_sharded else plain
    return PreferenceLoss(losses, beta=plan.objective.beta) if isinstance(plan.objective, Dpo) else losses


def versions(plan: Plan) -> dict[str, str]:
    """List what a run was made with."""
    names = ["torch", "transformers", "peft", "accelerate", "tokenizers", "finetune-exe"]
    names += ["bitsandbytes"] if needs_bitsandbytes(plan) else []
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _base_name(plan: Plan, base: Path) -> str:
    """Name the base in the adapter so that PEFT finds it again: a hub id as it is, anything local by its folder."""
    reference = plan.model.reference
    return str(base.resolve()) if reference == "embedded" or Path(reference).expanduser().exists() else reference


def recompute(model: Any, *, every: int) -> None:
    """Let the first of every so many layers be computed again in the backward pass instead of being kept."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    from finetune_exe.models.packed import Packed

    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for number, layer in enumerate(layers):
        layer.gradient_checkpointing = number % every == 0
        for module in layer.modules():
            if isinstance(module, Packed):
                module.computed_again = layer.gradient_checkpointing
