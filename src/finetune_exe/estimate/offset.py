"""How long adapters take that begin by offsetting what rounding to 4 bit took from the weights."""

from __future__ import annotations

from finetune_exe.domain.plan import Plan, Qlora
from finetune_exe.domain.values import Interval
from finetune_exe.estimate.parameters import matrices
from finetune_exe.estimate.planned import adapted_layers, planned_gpu
from finetune_exe.estimate.throughput import operations_per_weight
from finetune_exe.estimate.workload import Workload
from finetune_exe.knowledge.cpus import cpu_rates

GENERAL_TOKENS = 527
"""Tokens of the general texts that inputs are measured on. Source: counted with the tokenizer of SmolLM2."""
PASSES, MORE_COLUMNS = 10, 8
"""Products with a layer's error that its decomposition takes, and their columns beyond the rank.

Source: counted from PyTorch 2.13's `svd_lowrank` with four iterations; on one core of an EPYC with AVX-512 their
operations over its time were 42 GFLOP/s for the layers of SmolLM2-135M at ranks 16 and 64, what is known as that
processor's rate in float32, and 29 to 61 for matrices of 192 to 14,336 rows."""
SECONDS_A_WEIGHT = 4.3e-9
"""To read a weight, unpack it and take the difference. Source: SmolLM2-135M on that core, 0.46 s beside the rest."""
GPU_LAYER_SECONDS = 0.03
"""What a GPU takes for a layer beside moving its error: nine small orthogonalisations, each of many kernels, and one
decomposition. Judged, not measured: the interval is wide."""
_LOW, _HIGH = 0.4, 2.5


def offset_seconds(plan: Plan, workload: Workload, tokens_per_second: float) -> Interval | None:
    """Estimate the time that `method.offset_rounding` takes before the first step; None where it is off."""
    method = plan.method
    if not isinstance(method, Qlora) or not method.offset_rounding:
        return None
    targets = adapted_layers(method) - ({"gate", "up", "down"} if workload.shape.num_experts > 1 else set())
    layers = [matrix for matrix in matrices(workload.shape) if matrix.has_adapter(targets)]
    weights = sum(layer.size * layer.copies for layer in layers)
    gpu = planned_gpu(plan)
    if gpu is None:
        rates = cpu_rates(plan.hardware.cpu_features)
        operations = 2 * PASSES * (method.lora_rank + MORE_COLUMNS) * weights
        decomposing = operations / (1e9 * rates.effective_fp32_gflops * plan.hardware.num_cores**0.9)
    else:
        decomposing = 4 * PASSES * weights / (1e9 * gpu.bandwidth_gb_per_second)
        decomposing += GPU_LAYER_SECONDS * sum(layer.copies for layer in layers)
    reading = GENERAL_TOKENS * 2 / operations_per_weight(workload) / tokens_per_second
    middle = decomposing + SECONDS_A_WEIGHT * weights + reading
    return Interval(low=_LOW * middle, mid=middle, high=_HIGH * middle)
