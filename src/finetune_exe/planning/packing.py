"""Whether the rows of a pass are padded side by side or lie end to end."""

from __future__ import annotations

from collections.abc import Collection

from finetune_exe.domain.plan import Plan, Prefix, Prompt
from finetune_exe.domain.values import Decision, Hardware
from finetune_exe.estimate.rows import Passes, arrange_passes, is_paired, row_tokens, sequences_of_pass, shared_tokens

WORTH, WORTH_ONE_BY_ONE = 0.04, 0.15
"""Padding over real tokens above which rows are packed; the second on GPUs before Ampere.

Source: steps of SmolLM2-135M on two Zen 4 cores; attention to each row by itself takes as long as so much padding. On
GPUs since Ampere one kernel takes all rows. Before, each is taken by itself, which costs 0.17 ms a row and layer, 15 %
of a step of eight rows (benchmarks/gpu.md)."""


def advise_packing(plan: Plan, *, fixed: Collection[str]) -> Plan:
    """Pack the rows where padding them, sorted by length as they are, or each one's beginning would cost more.

    Args:
        plan: The plan, its rows shared out to passes.
        fixed: Dotted paths of settings that must stay as they are.
    """
    passes = arrange_passes(plan)
    if (
        passes is None
        or plan.model.shape is None
        or plan.batch.packing
        or isinstance(plan.method, Prefix | Prompt)
        or {"batch.packing", "batch.group_by_length"} & set(fixed)
        or passes.padded_share + _saved_share(plan) <= _worth(plan.hardware)
    ):
        return plan
    decisions = {
        "batch.packing": Decision(
            value=True,
            reason=_reason(plan, passes),
            source="the lengths that were counted, laid out in the passes of an epoch",
            confidence="high",
            alternatives=("false: pads rows side by side; with batch.group_by_length rows of like length",),
            would_change="rows of like length, or one row a pass",
        ),
        "batch.group_by_length": Decision(
            value=False,
            reason="packed rows need not be of like length, so each step is a fair draw of all",
            source="batch.packing",
            confidence="high",
        ),
    }
    return plan.altered(batch={"packing": True, "group_by_length": False}).decided(decisions)


def _worth(hardware: Hardware) -> float:
    """Give what packing costs; FlashAttention and bfloat16 came with the same GPUs."""
    return WORTH if all(gpu.bf16 for gpu in hardware.gpus) else WORTH_ONE_BY_ONE


def _shared(plan: Plan) -> float:
    """Count what packed rows would have in common at their beginning."""
    return shared_tokens(plan.altered(batch={"packing": True}))


def _saved_share(plan: Plan) -> float:
    """Give the share of the rows' tokens that packed rows need not compute, because they begin alike."""
    assert plan.profile is not None
    size = sequences_of_pass(plan)
    return (size - 1) / size * _shared(plan) / row_tokens(plan).mid


def _reason(plan: Plan, passes: Passes) -> str:
    """Say what padding costs, and what rows that begin alike would."""
    padding = f"padded, even sorted by length, {passes.padded_share:.0%} more is computed than the rows hold"
    if not (shared := _shared(plan)):
        return padding
    if is_paired(plan):
        return (
            f"{padding}; packed, what the answers of a pair have before them is computed once: {_saved_share(plan):.0%}"
        )
    return f"{padding}; packed, the {shared:,.0f} tokens that rows begin with alike are computed once a pass"
