"""How fast a workload trains on a GPU: a roofline with a floor for launches.

    seconds of a pass = max(matrix products + attention + memory traffic, launches)  [smoothly]
    seconds of a step = that, or the network's where it is slower, and the optimizer's share

Every constant is one of the machine or of a software stack, and none of a model, source or row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from finetune_exe.domain.values import Interval
from finetune_exe.estimate.activations import block_bytes, logit_bytes
from finetune_exe.estimate.parameters import block_parameters, count_adapted_experts, count_targeted_parameters
from finetune_exe.estimate.workload import Adapters, FullTraining, Workload
from finetune_exe.knowledge.gpu_rates import GPUS_OF_A_MACHINE, link_of, utilisation
from finetune_exe.knowledge.gpus import GpuFacts

ATTENTION_SHARE = 0.45
"""Rate of fused causal attention over that of matrix products.

Source: github.com/mosaicml/llm-foundry, scripts/train/benchmarking, from 512 to 65,536 tokens."""
NARROW_WIDTH = 150
"""Hidden size at which matrix products reach half their rate. Source: the same table from 125M to 70B parameters."""
BLOCK_TRAFFIC = 5.0
"""Times that each byte a block keeps is moved in a pass: written, read, and as much for what is not kept."""
COMPILED_TRAFFIC = 0.5
"""The same where compiled kernels fuse neighbours. Source: github.com/pytorch/torchtune, README, with and without."""
LOGIT_TRAFFIC = 3.0
"""Times that each byte of the loss's peak is moved."""
DEQUANTISE_BYTES = 15.0
"""Bytes moved for each quantised weight in each pass: 4 bits read, 16 written and read again, block scales.

Source: github.com/foundation-model-stack/fms-acceleration, NF4 and GPTQ against 16 bit."""
REBUILD_BYTES = 4.0
"""Bytes of a number of a weight that an adapter rebuilds, for each time it is touched."""
EXPERT_TOUCHES = 2.5
"""Times that a pass forward or back touches each number of an expert that it adds an adapter to.

Source: counted from PEFT 0.21: read and written, the gradient written and read twice, over two passes."""
BLOCK_LAUNCH_SECONDS = 1.0e-3
"""Time that Python and the driver need to start one block's kernels, forward. Source: PEFT method comparison on L40S;
QwenLM/Qwen README at 256 tokens."""
COMPILED_LAUNCHES = 0.4
ADAPTER_LAUNCH_SECONDS = 0.12e-3
"""The same for the adapter of one layer."""
BACKWARD_LAUNCHES = 1.5
"""The same for a backward pass, over the forward one's."""
FOREACH_TOUCHES, FUSED_TOUCHES = 6.0, 1.5
"""Times that a step touches weights, gradients and states: once for each of a dozen operations, or about once.

Source: counted from PyTorch's AdamW; PEFT method comparison, full fine-tuning on L40S."""
LINK_SHARE = 0.233
"""Rate at which one GPU gathers weights from its neighbours, over that of its link in one direction.

Source: fms-acceleration on 2 and 4 A100, 70 of 300 GB/s."""
UNHIDDEN_SHARE = 0.07
"""Share of that time that computing does not hide even where it is longer."""
FP8_TIME = 0.6
"""Time of matrix products in 8 bit, over 16 bit. Source: github.com/pytorch/ao and torchtitan, float8 tables."""
SELECTIVE_RECOMPUTE = 0.4
"""Share of a forward pass that selective checkpointing repeats."""

HOST_SPREAD = 1.0
"""Logarithm of how much slower a host may start kernels than those that the figures above are of.

Source: benchmarks/gpu.md: a virtual machine with an H100 took 2.4 times as long for a step that waits for them."""
BASE_SPREAD = 0.32
"""Logarithm of the interval's bounds over its middle where every input is stated."""
GUESS_SPREAD = {
    "length": 0.3, "mean_length": 0.2, "shape": 0.15, "checkpointing": 0.15, "method": 0.25, "loss": 0.05,
    "micro_batch": 0.3, "sharding": 0.2,
}  # fmt: skip
"""What an unstated input adds, as independent errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Speed of training on each GPU."""

    tokens_per_second: Interval
    """Real tokens a second and GPU."""
    parts: dict[str, float]
    """Seconds of one micro-batch by what takes them; those of launches and network only where they are the longest."""
    reason: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why no speed is given."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What one micro-batch computes and moves on one GPU."""

    matmul_operations: float
    attention_operations: float
    activation_bytes: float
    weight_bytes: float
    optimizer_bytes: float


def throughput(workload: Workload) -> Throughput | Refusal:
    """Estimate real tokens a second and GPU, or say why that cannot be done honestly."""
    gpu = workload.gpu
    if gpu is None:
        return Refusal(reason="the GPU is not known, so neither are its rates")
    if not _peak(gpu, workload):
        return Refusal(reason=f"no rate in this number format is known for the {gpu.name}")
    parts = _seconds(workload, gpu)
    longest = (parts["compute"] ** 3 + parts["launches"] ** 3 + parts["network"] ** 3) ** (1 / 3)
    seconds = longest + UNHIDDEN_SHARE * parts["network"] + parts["optimizer"]
    middle = workload.micro_batch_size * workload.mean_tokens / (seconds * workload.sharding.tensor_parallel)
    terms = [BASE_SPREAD, *(GUESS_SPREAD.get(name, 0.0) for name in workload.guessed)]
    spread = math.exp(math.sqrt(sum(term * term for term in terms)))
    waiting = (parts["launches"] / longest) ** 3
    slower = math.exp(HOST_SPREAD * waiting)
    bound = max(("compute", "launches", "network"), key=lambda name: parts[name])
    return Throughput(
        tokens_per_second=Interval(low=middle / (spread * slower), mid=middle, high=middle * spread),
        parts=parts,
        reason=f"bound by {bound}; {100 * utilisation(gpu).matmul_share:.0f} % of {_peak(gpu, workload) / 1e12:,.0f} "
        f"TFLOP/s in matrix products and {gpu.bandwidth_gb_per_second:,.0f} GB/s beside them",
        source=f"{gpu.source}; {utilisation(gpu).source}",
    )


def _peak(gpu: GpuFacts, workload: Workload) -> float:
    """Peak operations a second in the format of the matrix products."""
    if workload.compute_bytes == 4:
        return 1e12 * ((workload.tf32 and gpu.tf32_tflops) or gpu.fp32_tflops)
    return 1e12 * (gpu.bf16_tflops or gpu.fp16_tflops)


def _seconds(workload: Workload, gpu: GpuFacts) -> dict[str, float]:
    work = _work(workload)
    hidden = workload.shape.hidden_size
    rate = _peak(gpu, workload) * utilisation(gpu).matmul_share * hidden / (hidden + NARROW_WIDTH)
    bandwidth = 1e9 * gpu.bandwidth_gb_per_second
    compute = (
        work.matmul_operations / rate * (FP8_TIME if workload.fp8 else 1.0)
        + work.attention_operations / (rate * ATTENTION_SHARE)
        + (work.activation_bytes + work.weight_bytes) / bandwidth
    )
    return {
        "compute": compute / workload.sharding.tensor_parallel,
        "launches": _launches(workload),
        "network": _network_bytes(workload) / _link_rate(workload, gpu),
        "optimizer": work.optimizer_bytes / bandwidth,
    }


def _work(workload: Workload) -> _Work:
    shape = workload.shape
    tokens = workload.computed_tokens
    block = shape.num_layers * block_parameters(shape, active=True)
    head = shape.vocab_size * shape.hidden_size * workload.computed_learned_share
    trained_passes = 3 if isinstance(workload.training, FullTraining) else 2
    again = recomputed(workload)
    causal = 2 * shape.num_attention_layers * shape.num_attention_heads * shape.head_dim * workload.attended_tokens
    moved = BLOCK_TRAFFIC * (COMPILED_TRAFFIC if workload.compiled else 1.0)
    blocks = shape.num_layers * block_bytes(workload) * (2 + again)
    return _Work(
        matmul_operations=2 * tokens * (block * (trained_passes + again) + head * trained_passes),
        attention_operations=tokens * causal * (1 + again + 2.5),
        activation_bytes=tokens
        * (moved * blocks + LOGIT_TRAFFIC * logit_bytes(workload) * workload.computed_learned_share),
        weight_bytes=_weight_traffic(workload) * (2 + again),
        optimizer_bytes=_optimizer_traffic(workload),
    )


def operations_per_weight(workload: Workload) -> float:
    """Count the floating-point operations for each token and weight: two forward, two or four backward, and what is
    computed again.

    Source: LoRA Without Regret (2025) for 4 against 6.
    """
    return 2 * (2 + isinstance(workload.training, FullTraining) + recomputed(workload))


def recomputed(workload: Workload) -> float:
    """Give the share of a forward pass that a step makes besides: what the backward pass repeats, and a reference."""
    shares = {"no": 0.0, "selective": SELECTIVE_RECOMPUTE, "full": workload.recomputed_layers, "offload": 1.0}
    return shares[workload.checkpointing] + workload.reference_passes


def _weight_traffic(workload: Workload) -> float:
    """Bytes that a pass moves for weights which must be made before they are used."""
    shape = workload.shape
    quantised = DEQUANTISE_BYTES * shape.num_layers * block_parameters(shape) if workload.quantised else 0.0
    match workload.training:
        case Adapters(weight_touches=touches, targets=targets) if touches:
            return quantised + REBUILD_BYTES * touches * count_targeted_parameters(shape, targets=targets)
        case Adapters(rebuilds_experts=True, targets=targets):
            rebuilt = count_adapted_experts(shape, targets=targets)
            return quantised + workload.compute_bytes * EXPERT_TOUCHES * rebuilt
        case _:
            return quantised


def _optimizer_traffic(workload: Workload) -> float:
    """Bytes that the optimizer's step moves, shared out among the passes that accumulate for it."""
    width = 2 * workload.training.parameter_bytes + workload.optimizer.state_bytes
    width *= FOREACH_TOUCHES if workload.optimizer.foreach else FUSED_TOUCHES
    trained = workload.num_trained + workload.num_trained_embeddings
    return width * trained * workload.sharding.share(of=workload.sharding.states) / workload.accumulation


def _launches(workload: Workload) -> float:
    """Seconds that it takes to start all kernels, however little they do."""
    block = BLOCK_LAUNCH_SECONDS * (COMPILED_LAUNCHES if workload.compiled else 1.0)
    if isinstance(workload.training, Adapters):
        block += ADAPTER_LAUNCH_SECONDS * len(workload.training.targets)
    return workload.shape.num_layers * block * (1 + recomputed(workload) + BACKWARD_LAUNCHES)


def _link_rate(workload: Workload, gpu: GpuFacts) -> float:
    """Bytes a second that one GPU receives from its machine, or lets in with it from others where there are several."""
    link = link_of(gpu)
    rate = link.gb_per_second
    if workload.sharding.num_gpus > GPUS_OF_A_MACHINE:
        rate = min(rate, link.network_gb_per_second)
    return 1e9 * LINK_SHARE * rate


def _network_bytes(workload: Workload) -> float:
    """Bytes one GPU receives: weights twice and gradients once where they are cut up, otherwise gradients alone."""
    sharding = workload.sharding
    if sharding.num_gpus == 1:
        return 0.0
    weights = 3.0 * workload.num_parameters if sharding.weights else float(workload.num_trained)
    return 2 * weights / sharding.tensor_parallel
