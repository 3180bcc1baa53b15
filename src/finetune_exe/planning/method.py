"""How the model is made trainable: every weight, adapters, adapters on 4-bit weights, or a learned prefix."""

from __future__ import annotations

from finetune_exe.domain.method_kinds import MethodKind
from finetune_exe.domain.plan import BaseModelChoice
from finetune_exe.domain.task import DataProfile, TaskSpec
from finetune_exe.domain.values import Decision
from finetune_exe.estimate.parameters import count_lora_parameters
from finetune_exe.knowledge.rules import rule
from finetune_exe.planning.adapter import learned_tokens

_WISHED: dict[MethodKind, str] = {
    "lora": "you asked for it: adapters learn most tasks as well as full training, and forget less",
    "qlora": "you asked for it: the frozen weights take a quarter of the memory, and training is slower",
    "full": "you asked to train every weight; it takes several times the memory of LoRA and forgets more",
    "prefix": "you asked for it: it saves little memory over LoRA, and was measured to learn less and forget more",
    "prompt": "you asked for it: the smallest adapter but one, and the one that was measured to learn least",
    "ia3": "you asked for it: the smallest adapter; measured to learn a little less than LoRA and forget more",
}


def advise_method(spec: TaskSpec, *, profile: DataProfile | None, model: BaseModelChoice) -> Decision:
    """Choose the method by wish, by how much there is to learn, and by what must not be forgotten.

    LoRA is the choice unless the learned tokens are more than its largest adapter holds; whether QLoRA is needed to
    fit the memory is decided later.

    Source: Biderman et al. 2024, LoRA Learns Less and Forgets Less; LoRA Without Regret (2025).
    """
    if spec.method is not None:
        return Decision(value=spec.method, reason=_WISHED[spec.method], source="you", confidence="high")
    known = rule("lora_capacity")
    largest = rule("lora_rank")["most"]
    if profile is not None and model.shape is not None and not spec.keep_abilities:
        tokens = learned_tokens(profile)
        held = count_lora_parameters(model.shape, rank=int(largest)) * known["tokens_per_parameter"]
        if tokens.low > held:
            return known.decides(
                "full",
                (
                    f"about {tokens.mid:,.0f} learned tokens are more than the {held:,.0f} weights of an adapter of "
                    f"rank {largest:.0f} hold"
                ),
                alternatives=("lora: forgets less and takes less memory, but learns such data less well",),
                would_change="abilities that must be kept (--keep-abilities), or fewer rows",
            )
    usual = "adapters learn such tasks as well as full training, in a fraction of the memory, and forget less"
    keeping = ", and what the model can do today shall stay" if spec.keep_abilities else ""
    return Decision(
        value="lora",
        reason=usual + keeping,
        source="LoRA Without Regret (2025); Biderman et al. 2024",
        confidence="high",
        alternatives=(
            "qlora: where the frozen weights do not fit in 16 bit",
            "full: for millions of rows or a new language or domain, with ten times less learning rate",
            "prefix, prompt or ia3: smaller still; measured to learn less and forget more",
        ),
        would_change="memory too small for the frozen weights, or far more data than an adapter holds",
    )
