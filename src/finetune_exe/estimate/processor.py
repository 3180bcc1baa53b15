"""How fast a workload trains on the cores of a processor."""

from __future__ import annotations

from finetune_exe.domain.values import Hardware, Interval
from finetune_exe.estimate.parameters import block_parameters
from finetune_exe.estimate.throughput import Throughput, operations_per_weight, recomputed
from finetune_exe.estimate.workload import FullTraining, Workload
from finetune_exe.knowledge.cpus import cpu_rates

FULL_RATE = {2: 1.0, 4: 1.3}
"""Rate in full training over that with adapters, the optimizer aside, by the bytes of a number in matrix products.

Source: SmolLM2-135M, in bfloat16 on two Zen 4 cores, in float32 on two AMX cores (109 against 129 tokens/s)."""
CALL_SECONDS = {"adapters": 0.0135, "full": 0.007}
"""What one layer costs in one pass forward and back however few its tokens are: calls, casts, the adapters' small
products. Source: SmolLM2-135M, 30 layers, passes of 200 to 1,700 tokens on two Zen 4 cores: 0.4 s with adapters."""
HEAD_COST = 2.0
"""Time of an operation in the output matrix and the cross-entropy over its logits, over one in a layer.

Source: SmolLM2-135M on two Zen 4 cores, steps of 584 to 1,694 tokens with 15 to 72 % of them learned; on two AMX cores
that matrix alone was measured at a third of the rate of others."""
OPTIMIZER_BYTES = 40.0
"""Bytes that AdamW and the clipping before it move for each trained weight in float32."""
_MEASURED_WIDTH = 0.3
"""Half-width of the interval, as a share, where the rate of matrix products was measured here; 0.5 where it was not."""
BYTES_PER_SECOND = 10e9
"""Rate at which one or two cores move them."""


def processor_throughput(workload: Workload, hardware: Hardware) -> Throughput:
    """Estimate real tokens a second on all cores: operations over what the cores do in a step, and the optimizer."""
    rates = cpu_rates(hardware.cpu_features)
    half = workload.compute_bytes == 2
    effective = rates.effective_bf16_gflops if half else rates.effective_fp32_gflops
    measured = hardware.matrix_flops_per_second
    if measured is None:
        reached, width, source = 1e9 * effective * hardware.num_cores**0.9, 0.5, rates.source
        reason = f"{effective:.0f} GFLOP/s a core on {hardware.num_cores} cores"
    else:
        share = effective / (rates.peak_bf16_gflops if half else rates.peak_fp32_gflops)
        reached, width, source = (
            share * measured,
            _MEASURED_WIDTH,
            f"matrix products timed on this machine; {rates.source}",
        )
        reason = f"{share:.0%} of the {measured / 1e9:.0f} GFLOP/s that matrix products reach here"
    full = isinstance(workload.training, FullTraining)
    rate = reached * (FULL_RATE[workload.compute_bytes] if full else 1.0)
    passes = operations_per_weight(workload)
    shape = workload.shape
    inner = shape.num_layers * block_parameters(shape, active=True)
    head = shape.vocab_size * shape.hidden_size * workload.computed_learned_share
    attention = 2 * shape.num_attention_layers * shape.num_attention_heads * shape.head_dim * workload.attended_tokens
    operations = passes * (inner + HEAD_COST * head) + attention * (3.5 + recomputed(workload))
    rows = workload.micro_batch_size * workload.accumulation * workload.mean_tokens
    parts = {
        "calls": shape.num_layers * CALL_SECONDS["full" if full else "adapters"],
        "compute": workload.computed_tokens * operations / rate,
        "optimizer": OPTIMIZER_BYTES * workload.num_trained / BYTES_PER_SECOND / workload.accumulation,
    }
    middle = workload.micro_batch_size * workload.mean_tokens / sum(parts.values())
    return Throughput(
        tokens_per_second=Interval(low=middle / (1 + width), mid=middle, high=middle * (1 + width)),
        parts=parts,
        reason=f"{reason}, {rows:,.0f} tokens a step",
        source=source,
    )
