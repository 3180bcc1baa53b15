"""The form of the adapter: rank, scale, dropout and where it sits."""

from __future__ import annotations

import math
import statistics

from finetune_exe.domain.plan import BaseModelChoice, Lora, Qlora
from finetune_exe.domain.task import DataProfile
from finetune_exe.domain.values import Decision, Interval
from finetune_exe.estimate.parameters import count_lora_parameters
from finetune_exe.estimate.rows import learned_share, tokens_of
from finetune_exe.knowledge.rules import rule
from finetune_exe.planning.grid import advise_quantization

_USUAL = Lora()


def learned_tokens(profile: DataProfile) -> Interval:
    """Give the tokens of all rows that carry a loss, once through the data: counted, or judged from characters.

    Judged ones have the token that ends each answer added to those of its characters.
    """
    share = learned_share(profile, profile.tokens)
    ends = 0
    if profile.tokens is not None:
        mean = statistics.fmean(profile.tokens.lengths)
        row = Interval(low=0.9 * mean, mid=mean, high=1.1 * mean)
    else:
        row = tokens_of(profile.row_characters_mean, longest=math.inf)
        ends = profile.num_rows
    return Interval(
        low=profile.num_rows * row.low * share.low + ends,
        mid=profile.num_rows * row.mid * share.mid + ends,
        high=profile.num_rows * row.high * share.high + ends,
    )


def advise_adapter(
    profile: DataProfile | None, model: BaseModelChoice, *, preset_rank: Decision | None, on_gpu: bool
) -> dict[str, Decision]:
    """Decide every setting of a low-rank adapter, by dotted path."""
    rank = preset_rank or _rank(profile, model)
    known = rule("lora_alpha")
    targets = rule("lora_targets")
    return {
        "method.lora_rank": rank,
        "method.lora_alpha": known.decides(
            known["value"],
            "kept the same at every rank, so that the best learning rate hardly moves with the rank",
            interval=known.interval,
            would_change="nothing by itself: twice the alpha acts much like a higher learning rate",
        ),
        "method.lora_dropout": _dropout(
            profile, on_gpu=on_gpu, experts=model.shape is not None and model.shape.num_experts > 1
        ),
        "method.target_modules": targets.decides(
            "all-linear",
            "adapters on every linear layer learn more than on attention alone, at equal size",
            alternatives=("[q_proj, v_proj]: less memory; measured to learn less",),
        ),
        "method.use_rslora": _rank_stabilised(rank),
        "method.use_dora": rule("dora").decides(
            _USUAL.use_dora, f"no gain was measured for {rule('dora')['slower']:.0%} more time"
        ),
    }


def advise_rounding(model: BaseModelChoice) -> dict[str, Decision]:
    """Say how the weights of QLoRA come to lie in 4 bit, and what is done about what that takes from them."""
    quantization = advise_quantization(model)
    return {
        **({} if quantization is None else {"method.quantization": quantization}),
        "method.offset_rounding": _offset(),
    }


def _offset() -> Decision:
    """Let adapters begin at zero, as everyone who will load one over weights in 16 bit expects of it."""
    known = rule("offset_rounding")
    return known.decides(
        Qlora().offset_rounding,
        (
            "an adapter that begins at zero serves over the 16-bit weights too; one that offsets the rounding of "
            "the 4-bit ones is wrong over any others"
        ),
        alternatives=(
            f"true: of a model of {known['measured']:,.0f} weights it won back {known['won_back']:.0%} of what "
            "rounding cost the held-out loss; serve the merged model then, or the adapter over 4-bit weights alone",
        ),
        would_change="a model as small as that, which loses much by rounding, and which leaves merged",
    )


def _rank(profile: DataProfile | None, model: BaseModelChoice) -> Decision:
    """Take the customary rank, or more where the answers hold more tokens than the adapter has weights."""
    known = rule("lora_rank")
    rank, reason = int(known["usual"]), "customary, and more than enough for most tasks"
    if profile is not None and model.shape is not None:
        learned = learned_tokens(profile).mid
        per_rank = count_lora_parameters(model.shape, rank=1)
        about, room = float(f"{learned:.2g}"), float(f"{rank * per_rank:.3g}")
        reason = f"about {about:,.0f} learned tokens fit in {room:,.0f} adapter weights"
        if learned > rank * per_rank:
            rank = int(min(known["most"], 2 ** math.ceil(math.log2(learned / per_rank))))
            reason = f"about {about:,.0f} learned tokens want as many adapter weights"
    return known.decides(
        rank,
        reason,
        interval=Interval(low=8.0, mid=float(rank), high=max(64.0, float(rank))),
        would_change="more learned tokens than the adapter has weights",
    )


def _dropout(profile: DataProfile | None, *, on_gpu: bool, experts: bool) -> Decision:
    known, cost = rule("dropout"), rule("dropout_on_processor")
    few = profile is not None and profile.num_rows < known["below_rows"]
    value, reason, source = 0.0, "with enough rows it only slows learning", known.source
    if experts:
        reason = "adapters of experts, which are kept as one tensor, take none"
    elif profile is not None and few and on_gpu:
        value = known["value"]
        reason = f"{profile.num_rows} rows are few: dropout slows learning them by heart"
    elif few:
        reason = f"its random numbers would make a step {cost['slower']:.0%} slower on a processor"
        source = cost.source
    return Decision(
        value=value,
        reason=reason,
        source=source,
        confidence=known.confidence,
        interval=Interval(low=0.0, mid=value, high=0.1),
        would_change="a validation loss that rises while the training loss falls",
    )


def _rank_stabilised(rank: Decision) -> Decision:
    known = rule("rslora")
    return known.decides(
        _USUAL.use_rslora,
        f"it matters from rank {known['from_rank']:.0f} on, where it was measured to learn more and forget more",
        would_change=f"a rank of {known['from_rank']:.0f} or more that learns too slowly (advised here: {rank.value})",
    )
