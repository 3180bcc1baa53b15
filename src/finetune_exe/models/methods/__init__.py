"""Fine-tuning methods: how a base model is made trainable, saved and loaded again."""

from __future__ import annotations

from finetune_exe.domain.plan import Method
from finetune_exe.models.methods.full import FullMethod
from finetune_exe.models.methods.low_rank import LowRankMethod
from finetune_exe.models.methods.method import TrainingMethod
from finetune_exe.models.methods.prefix import PrefixMethod

__all__ = ["METHODS", "TrainingMethod", "training_method"]

METHODS: dict[str, TrainingMethod] = {
    "lora": LowRankMethod(),
    "qlora": LowRankMethod(),
    "prefix": PrefixMethod(),
    "full": FullMethod(),
}


def training_method(method: Method) -> TrainingMethod:
    """Look up the implementation of a plan's method."""
    return METHODS[method.kind]
