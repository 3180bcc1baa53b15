"""Fine-tuning methods: how a base model is made trainable, saved and loaded again."""

from __future__ import annotations

from finetune_exe.domain.method_kinds import MethodKind
from finetune_exe.domain.plan import Method
from finetune_exe.models.methods.full import FullMethod
from finetune_exe.models.methods.ia3 import Ia3Method
from finetune_exe.models.methods.low_rank import LowRankMethod
from finetune_exe.models.methods.method import TrainingMethod
from finetune_exe.models.methods.prefix import PrefixMethod
from finetune_exe.models.methods.prompt import PromptMethod

__all__ = ["METHODS", "TrainingMethod", "training_method"]

METHODS: dict[MethodKind, TrainingMethod] = {
    "lora": LowRankMethod(),
    "qlora": LowRankMethod(),
    "prefix": PrefixMethod(),
    "prompt": PromptMethod(),
    "ia3": Ia3Method(),
    "full": FullMethod(),
}


def training_method(method: Method) -> TrainingMethod:
    """Look up the implementation of a plan's method."""
    return METHODS[method.kind]
