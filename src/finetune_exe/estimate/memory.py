"""How much memory a plan's run takes at its peak."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.values import Estimate, Interval
from finetune_exe.estimate.footprint import footprint
from finetune_exe.estimate.planned import extremes, plan_workload
from finetune_exe.estimate.rows import arrange_passes, split_sizes
from finetune_exe.estimate.workload import Workload
from finetune_exe.units import GIB

CPU_RUNTIME_BYTES = round(0.6 * GIB)
"""Python, PyTorch, transformers and PEFT, once loaded. Source: resident size of this trainer before its first step,
less the model's weights; torch 2.13, transformers 5.23."""
CPU_HEAP_SHARE = 0.5
"""What the C library's heap holds beside activations, as a share of them, for tensors of many sizes come and go in it;
logits are few large blocks, which go back to the system at once.

Source, for this and the next: resident size of this trainer on SmolLM2-135M, LoRA and full, 8 rows of 128, 256 and 512
tokens, less the peak of live tensors that PyTorch's profiler counts in the same step; this one and the share
of what is saved were chosen on thirteen runs, all within 10 %."""
CPU_HEAP_FORM_BYTES, CPU_HEAP_BYTES = 0.02 * GIB, 0.75 * GIB
"""By how much the heap grows with each step of another form, and at most: chosen on six runs of 5 to 41 steps.

Padded rows have one form for each number of tokens: in a run of 70 steps of 8 sizes the heap grew by 0.2 GiB, nearly
all of it in the first eleven. Packed, hardly two steps have rows of the same lengths: in 69 steps it grew by 0.86 GiB.
"""
CPU_SAVED_SHARE = 0.5
"""What saving and putting back weights and optimizer states leaves in the heap, as a share of them: chosen likewise."""
_MANY_FORMS = 10
"""Steps of different forms taken for granted where the data is not known."""
_SOURCE = (
    "counted from the model's dimensions, tensor by tensor as PyTorch 2.13, transformers 5 and PEFT 0.21 keep them; "
    "checked on published peaks, benchmarks/estimates.md"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """Memory of a training process on a CPU at its peak, in bytes."""

    total: Interval
    parts: dict[str, float]
    """Terms that add up to the middle."""


def resident_memory(workload: Workload, *, num_forms: float = _MANY_FORMS) -> Resident:
    """Estimate the resident size of the process: live tensors, the heap's slack beside them, and the program."""
    memory = footprint(workload)
    saved = memory.parts["adapters"] + memory.parts["optimizer"]
    grown = min(CPU_HEAP_BYTES, num_forms * CPU_HEAP_FORM_BYTES)
    heap = grown + CPU_HEAP_SHARE * memory.parts["activations"] + CPU_SAVED_SHARE * saved
    return Resident(
        total=Interval(
            low=memory.allocated.low + 0.7 * heap + CPU_RUNTIME_BYTES,
            mid=memory.allocated.mid + heap + CPU_RUNTIME_BYTES,
            high=memory.allocated.high + 1.3 * heap + CPU_RUNTIME_BYTES,
        ),
        parts=memory.parts | {"heap": heap, "runtime": CPU_RUNTIME_BYTES},
    )


def estimate_memory(plan: Plan) -> Estimate | None:
    """Estimate the largest memory the run holds: of the process on a CPU, allocated by PyTorch on each GPU.

    The bounds are those of the shortest and the longest rows that the data may have. The low end is never below what
    weights, adapters and optimizer take.

    Returns:
        Bytes; None where the model's dimensions are unknown.
    """
    workload = plan_workload(plan)
    if workload is None:
        return None
    on_gpu = bool(plan.hardware.gpus)
    middle = footprint(workload)
    forms = _num_forms(plan)
    ends = [
        footprint(end).allocated if on_gpu else resident_memory(end, num_forms=forms).total
        for end in extremes(plan, workload)
    ]
    exact = middle.parts if on_gpu else resident_memory(workload, num_forms=forms).parts
    parts = {name: float(round(size)) for name, size in exact.items()}
    mid = sum(parts.values())
    return Estimate(
        value=Interval(low=float(round(min(ends[0].low, mid))), mid=mid, high=float(round(max(ends[1].high, mid)))),
        unit="bytes",
        reason=f"most in the {middle.phase}, with {workload.peak_tokens:,.0f} tokens at once, "
        f"{100 * workload.computed_learned_share:.0f} % of them learned",
        source=_SOURCE,
        parts=parts,
    )


def _num_forms(plan: Plan) -> float:
    """Count the optimizer steps of different forms that the plan's data makes; packed rows meet others each epoch."""
    if plan.profile is None:
        return _MANY_FORMS
    steps = split_sizes(plan).train * plan.schedule.epochs / plan.batch_of_step.effective
    wanted, passes = plan.schedule.max_steps, arrange_passes(plan)
    forms = steps if passes is None else passes.num_forms * (plan.schedule.epochs if plan.batch.packing else 1)
    return min(steps, forms, steps if wanted is None else wanted)
