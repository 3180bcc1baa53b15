"""Bytes that one transformer block, and the output layer, hold for each token of a training step.

Counted tensor by tensor as PyTorch's autograd keeps them. h is the hidden size, i the width of the MLP (of all experts
a token visits), q and k the widths of queries and keys.

Source: Korthikanti et al. 2022, Reducing activation recomputation, section 4, for the method; the tensors themselves
from the saved-tensor lists of transformers' Llama block under PyTorch 2.13 and PEFT 0.21.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from finetune_exe.estimate.parameters import ALL_LINEAR, Target, count_adapted_experts
from finetune_exe.estimate.workload import Adapters, FullTraining, Workload

Processor = Literal["cpu", "gpu"]
SLICE_LOGITS: dict[Processor, int] = {"cpu": 1 << 23, "gpu": 1 << 26}
"""Logits that this trainer's loss computes at once under a frozen output matrix: enough for the products to be fast,
and 16 megabytes in 16 bit, or 128 on a GPU. There, so many tokens share one reading of the output matrix as the GPU
computes operations while it reads a byte, or more: 512 of a vocabulary of 131,072.

Source: NVIDIA's data sheets: 989e12 operations over 3.35e12 bytes a second of an H100 SXM, 312e12 over 2.04e12 of an
A100 80 GB: 295 and 153."""
PIECE_LOGITS: dict[Processor, int] = {"cpu": 1 << 18, "gpu": 1 << 24}
"""Those of them that are worked on at once in float32: a megabyte, which stays in a core's own cache, or 64 of a GPU's
memory, for there each piece is a dozen kernels that the processor starts."""
PIECE_BYTES = 8.0
"""For each of these: as it is in float32, and its probability."""
LOGIT_BYTES = {"full": 12.0, "kernel": 8.0, "chunked": 6.0, "fused": 0.25, "sliced": 0.25}
"""For each logit at the peak of the loss. Plain cross-entropy holds log-probabilities, the gradient with regard to them
and the gradient with regard to the logits, each in float32; one kernel two of the three; pieces hold logits,
log-probabilities and gradient in 16 bit; a fused output layer, and a frozen one computed slice by slice, only a slice
of all of it. Of slices this is what they move, while what they hold is counted. This trainer's own under an output
matrix that trains puts the gradient in the place of the logits."""
COMPILED_CHUNKS = 2.0
"""The same for pieces whose loss is compiled, which keeps the 16-bit logits alone.

Source: github.com/pytorch/torchtune, README, memory with and without chunks."""

REBUILT_GRADIENT = 1 / 3
"""Share of a block's rebuilt experts that gradients take besides: of one matrix in three, before that one is let go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Widths:
    hidden: int
    queries: int
    keys: int
    inner: int

    def of_input(self, target: Target) -> int:
        """Give the width of what a linear layer reads."""
        return {"output": self.queries, "down": self.inner}.get(target, self.hidden)

    def of_output(self, target: Target) -> int:
        """Give the width of what a linear layer writes."""
        widths = {"query": self.queries, "key": self.keys, "value": self.keys, "gate": self.inner, "up": self.inner}
        return widths.get(target, self.hidden)


def _widths(workload: Workload) -> _Widths:
    shape = workload.shape
    return _Widths(
        hidden=shape.hidden_size,
        queries=shape.num_attention_heads * shape.head_dim,
        keys=shape.num_key_value_heads * shape.head_dim,
        inner=shape.intermediate_size * shape.experts_per_token + shape.shared_intermediate_size,
    )


def block_bytes(workload: Workload) -> float:
    """Count what one block keeps for its backward pass, for each token."""
    widths = _widths(workload)
    return (
        _norms(workload, widths)
        + _linear_inputs(workload, widths)
        + _attention(workload, widths)
        + _mlp(workload, widths)
        + _attention_scores(workload)
        + _routing(workload, widths)
    )


def repeated_bytes(workload: Workload) -> float:
    """Count what one block keeps of a beginning for each token that is not computed: copies of key and value."""
    return 2 * workload.compute_bytes * _widths(workload).keys if workload.ours_on_gpu else 0.0


def adapted_expert_bytes(workload: Workload) -> float:
    """Count a block's experts with their adapters added, which do not depend on the tokens."""
    match workload.training:
        case Adapters(rebuilds_experts=True, targets=targets):
            return _expert_bytes(workload, targets)
        case _:
            return 0.0


def rebuilt_bytes(workload: Workload) -> float:
    """Count what is kept of them for the backward pass."""
    return 0.0 if workload.quantised else adapted_expert_bytes(workload)


def remade_bytes(workload: Workload) -> float:
    """Count a block's experts that are in 4 bit and whole only while they are computed, forward and back."""
    match workload.training:
        case Adapters(rebuilds_experts=True) if workload.quantised:
            return _expert_bytes(workload, ALL_LINEAR)
        case _:
            return 0.0


def _expert_bytes(workload: Workload, targets: Collection[Target]) -> float:
    shape = workload.shape
    return workload.compute_bytes * count_adapted_experts(shape, targets=targets) / shape.num_layers


def backward_bytes(workload: Workload) -> float:
    """Count the gradients alive at once inside a block's backward pass, for each token: the MLP's, and the stream's.

    Experts that are one tensor are computed together, others one after the other, so that only one's are alive.
    """
    shape = workload.shape
    together = isinstance(workload.training, Adapters) and workload.training.rebuilds_experts
    experts = shape.intermediate_size * shape.experts_per_token / (1 if together else shape.num_experts)
    inner = max(experts, shape.shared_intermediate_size)
    gradients = 3 if shape.gated_mlp else 2
    return gradients * workload.compute_bytes * inner + workload.stream_bytes * shape.hidden_size


def kept_share(workload: Workload) -> float:
    """Give the share of what a block keeps for its backward pass that is not computed again."""
    match workload.checkpointing:
        case "no":
            return 1.0
        case "selective":
            return 0.5  # every other matrix product is kept
        case "full":
            return 1 - workload.recomputed_layers
        case "offload":
            return 0.0


def checkpoint_bytes(workload: Workload) -> float:
    """Count what is kept of each block for each token under the workload's checkpointing."""
    stream = workload.stream_bytes * workload.shape.hidden_size
    streams = {"no": 0.0, "selective": 1.0, "full": workload.recomputed_layers, "offload": 0.0}
    return streams[workload.checkpointing] * stream + kept_share(workload) * block_bytes(workload)


def logit_bytes(workload: Workload) -> float:
    """Count what the loss holds, or in slices moves, for each token whose logits are computed."""
    if workload.loss == "in_place":
        width = float(workload.compute_bytes)
    else:
        width = COMPILED_CHUNKS if workload.compiled and workload.loss == "chunked" else LOGIT_BYTES[workload.loss]
    return (width + _adapted_head_bytes(workload)) * workload.shape.vocab_size


def _adapted_head_bytes(workload: Workload) -> float:
    """Count what an adapter of the output matrix holds for each logit."""
    adapted = isinstance(workload.training, Adapters) and "head" in workload.training.targets
    return 2 * workload.compute_bytes if adapted else 0


def loss_bytes(workload: Workload, tokens: float) -> float:
    """Count what the loss holds for so many tokens whose logits are computed."""
    if workload.loss != "sliced":
        return logit_bytes(workload) * tokens
    kind: Processor = "gpu" if workload.ours_on_gpu else "cpu"
    logits = tokens * workload.shape.vocab_size
    pieces = PIECE_BYTES * min(logits, PIECE_LOGITS[kind])
    return workload.compute_bytes * min(logits, SLICE_LOGITS[kind]) + pieces + _adapted_head_bytes(workload) * logits


def last_hidden_bytes(workload: Workload) -> float:
    """Count what the last norm keeps for each token, and its result."""
    kept = workload.stream_bytes if workload.one_pass_norms else 4
    return (kept + workload.stream_bytes) * workload.shape.hidden_size


def _norms(workload: Workload, widths: _Widths) -> float:
    """Two norms a block. RMSNorm as transformers writes it works in float32; LayerNorm keeps only its input."""
    if workload.fuses_norms or not workload.shape.gated_mlp:
        return 2 * workload.stream_bytes * widths.hidden
    trained = isinstance(workload.training, FullTraining)
    return 2 * (4 + (workload.stream_bytes if trained else 0)) * widths.hidden


def _linear_inputs(workload: Workload, widths: _Widths) -> float:
    """Inputs of linear layers: kept where weights train, where an adapter reads them, or where 4-bit layers do."""
    half = workload.compute_bytes
    distinct = {"query": "attention", "key": "attention", "value": "attention", "gate": "mlp", "up": "mlp"}
    match workload.training:
        case FullTraining():
            narrow = 5 if workload.stream_bytes > half else 2
            if workload.one_pass_mlp:
                return half * min(narrow, 4) * widths.hidden
            return half * (narrow * widths.hidden + widths.inner)
        case Adapters(targets=targets, copied_bytes=copied, output_bytes=out, dropout=dropout):
            inner = sorted(targets - {"head"})
            quantised = (
                half * (3 * widths.hidden + widths.queries + widths.inner) if workload.quantised_saves_inputs else 0
            )
            if copied:
                kept = sum(copied * widths.of_input(target) for target in inner)
            else:
                inputs = {distinct.get(target, target): widths.of_input(target) for target in inner}
                inputs.pop("output", None)  # attention keeps its result anyway
                if workload.one_pass_mlp:
                    inputs.pop("down", None)  # computed again from gate and up
                kept = half * sum(inputs.values())
            thinned = {"attention" if target in ("query", "key", "value") else target: widths.of_input(target)
                       for target in inner}  # fmt: skip
            dropped = (half + 1) * sum(thinned.values()) if dropout else 0
            outputs = out * sum(widths.of_output(target) for target in inner)
            return kept + quantised + dropped + outputs


def _attention(workload: Workload, widths: _Widths) -> float:
    """Queries, keys and values, and what was read."""
    return workload.compute_bytes * (2 * widths.queries + 2 * widths.keys)


def _mlp(workload: Workload, widths: _Widths) -> float:
    """Gate, its activation where it is not computed again, and the up projection; or a plain activation's one input."""
    if not workload.shape.gated_mlp:
        return workload.compute_bytes * widths.inner
    return (2 if workload.compiled or workload.one_pass_mlp else 3) * workload.compute_bytes * widths.inner


def _attention_scores(workload: Workload) -> float:
    """Attention written out keeps its scores for every pair of positions, in float32 and again in 16 bit."""
    if workload.attention == "fused":
        return 0.0
    return (4 + workload.compute_bytes) * workload.shape.num_attention_heads * workload.longest_tokens


def _routing(workload: Workload, widths: _Widths) -> float:
    """Tokens gathered for each expert, and each expert's answer before it is weighed."""
    if workload.shape.num_experts == 1:
        return 0.0
    return 2 * workload.compute_bytes * workload.shape.experts_per_token * widths.hidden
