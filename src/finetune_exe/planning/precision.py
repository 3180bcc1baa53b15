"""Number formats, by what the processor computes in."""

from __future__ import annotations

from finetune_exe.domain.values import Decision, Hardware, Leaf
from finetune_exe.knowledge.rules import rule


def advise_precision(hardware: Hardware) -> dict[str, Decision]:
    """Take 16 bit where it is computed in hardware: bfloat16 if it can be, else float16 with a scaled loss."""
    if hardware.computes_bf16:
        on_gpu = bool(hardware.gpus)
        return {
            "precision.base_dtype": Decision(
                value="bfloat16",
                reason="computed in hardware: half the memory, faster products; what is trained stays exact to float32",
                source=rule("bfloat16_on_gpu" if on_gpu else "bfloat16_on_processor").source,
                confidence="high",
                alternatives=("float32: exact, but slower and twice the weights",),
                would_change=f"a {'GPU' if on_gpu else 'processor'} without bfloat16",
            )
        }
    if not hardware.gpus:
        return {}
    known = rule("float16")
    return {
        "precision.base_dtype": known.decides(
            "float16",
            f"{hardware.gpus[0].name} has no bfloat16; the loss is scaled so that small gradients stay",
            alternatives=("float32: slower and twice the weights; takes any number",),
            would_change="a GPU with bfloat16 (NVIDIA from Ampere on), which needs no scaling",
        )
    }


def advise_masters(hardware: Hardware, *, base_dtype: Leaf) -> dict[str, Decision]:
    """Say in what all weights are kept while they train, so that small updates are not rounded away.

    Args:
        hardware: What it runs on.
        base_dtype: Number format that the user fixed; None follows the hardware.
    """
    known = rule("masters")
    half = base_dtype == "bfloat16" or (base_dtype is None and hardware.computes_bf16)
    if not half:
        return {}
    return {
        "method.masters": known.decides(
            "split",
            (
                "weights in bfloat16 alone would round most updates away; the 16 bits they lack, kept beside them, "
                "make them float32 exactly, for 4 bytes a weight less than float32 weights with 16-bit copies"
            ),
            alternatives=(
                "float32: gradients in float32 too, slower",
                "stochastic: 2 bytes a weight less, exact on average alone",
            ),
        )
    }
