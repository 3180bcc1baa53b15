"""How much memory a workload takes on one GPU: its parts, the phases of a step, and the intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

from finetune_exe.domain.values import Interval
from finetune_exe.estimate.activations import (
    REBUILT_GRADIENT,
    adapted_expert_bytes,
    backward_bytes,
    block_bytes,
    checkpoint_bytes,
    kept_share,
    last_hidden_bytes,
    loss_bytes,
    rebuilt_bytes,
    remade_bytes,
    repeated_bytes,
)
from finetune_exe.estimate.parameters import (
    block_parameters,
    count_targeted_parameters,
    count_uncalled_parameters,
    embedding_parameters,
)
from finetune_exe.estimate.workload import STORED_BYTES, Adapters, FullTraining, Workload
from finetune_exe.units import GIB

CONTEXT_BYTES = 0.35 * GIB
"""Memory that the driver, cuBLAS and the kernels take outside PyTorch's pool.

Source: chosen, with the two below, on published peaks (benchmarks/estimates.md), the smallest gaps between nvidia-smi
and PyTorch's peak in fms-acceleration's benchmarks on A100 as the guide; not measured by itself."""
POOL_SLACK = 0.08
"""Share of activations and logits that the allocator's pool holds above its peak of live bytes, batches of one length.

Source: chosen like `CONTEXT_BYTES`."""
POOL_BYTES = 0.35 * GIB
"""What the pool holds in any case: rounding up to segments, and the workspaces of cuBLAS."""
VALIDATION_LOGIT_BYTES = 10.0
"""For each logit without a backward pass: as computed, in float32, and its logarithm of probability."""
OWN_LOSSES = ("sliced", "in_place")
"""Losses of this trainer, computed alike with a backward pass and without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Memory of one GPU at the peak, in bytes."""

    allocated: Interval
    """Peak of live tensors, as torch.cuda.max_memory_allocated counts."""
    reserved: Interval
    """Peak of the allocator's pool."""
    device: Interval
    """What nvidia-smi shows for the process."""
    floor: float
    """Weights and what training them needs: nothing can be below."""
    parts: dict[str, float]
    """Terms that add up to the allocated peak."""
    phase: str
    """Where in a step the peak lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phase:
    name: str
    gradients: float = 0.0
    activations: float = 0.0
    logits: float = 0.0
    temporaries: float = 0.0

    @property
    def total(self) -> float:
        return self.gradients + self.activations + self.logits + self.temporaries


def footprint(workload: Workload) -> Footprint:
    """Estimate the peak memory of a workload.

    The peak is the largest of five phases: the loss, with everything kept for the backward pass alive; the backward
    pass of the last block, right after; that of the first block, when all gradients are there; the optimizer's step;
    and the validation pass, which keeps nothing but computes logits as the loss does: all of a batch, or in slices.
    """
    weights, adapters = weight_bytes(workload), _adapter_bytes(workload)
    states = _state_bytes(workload)
    paged = states if workload.optimizer.paged else 0.0
    peak = max(_phases(workload), key=lambda phase: phase.total)
    parts = {
        "weights": weights,
        "adapters": adapters,
        "gradients": peak.gradients,
        "optimizer": states - paged,
        "activations": peak.activations,
        "logits": peak.logits,
        "temporaries": peak.temporaries,
    }
    allocated = sum(parts.values())
    moving = peak.activations + peak.logits + peak.temporaries
    reserved = allocated + POOL_SLACK * moving + POOL_BYTES
    gradients = 0.0 if workload.optimizer.in_backward else _gradient_bytes(workload)
    floor = weights + adapters + states - paged + gradients
    spread = spread_of(workload, moving / allocated)
    return Footprint(
        allocated=_interval(allocated, spread, spread, floor),
        reserved=_interval(reserved, spread, 1.2 * spread + 0.03, floor),
        device=_interval(reserved + paged + CONTEXT_BYTES, spread, 1.4 * spread + 0.08, floor),
        floor=floor,
        parts=parts,
        phase=peak.name,
    )


def weight_bytes(workload: Workload) -> float:
    """Count the model's own weights on one GPU; embeddings and output matrix keep 16 bit or more when others shrink."""
    shape, stored = workload.shape, STORED_BYTES[workload.storage]
    embeddings = min(workload.num_parameters, embedding_parameters(shape))
    whole = embeddings + shape.other_parameters + count_uncalled_parameters(shape)
    outside = max(stored, workload.unquantised_bytes)
    return ((workload.num_parameters - whole) * stored + whole * outside) * workload.sharding.share(
        of=workload.sharding.weights
    )


def _adapter_bytes(workload: Workload) -> float:
    match workload.training:
        case FullTraining(master_bytes=master):
            return master * workload.num_parameters * workload.sharding.share(of=workload.sharding.states)
        case Adapters():
            return _trained_bytes(workload) * workload.sharding.share(of=workload.sharding.weights)


def _trained_bytes(workload: Workload) -> float:
    """Bytes of everything that moves, in the format it is trained in."""
    copies = workload.compute_bytes * workload.num_trained_embeddings
    return workload.training.parameter_bytes * workload.num_trained + copies


def _gradient_bytes(workload: Workload, *, block: bool = False) -> float:
    """Bytes of all gradients, or of those of one block."""
    trained = _trained_bytes(workload)
    if block:
        inside = 1 - embedding_parameters(workload.shape) / workload.num_parameters
        trained *= max(0.0, inside) / workload.shape.num_layers
    return trained * workload.sharding.share(of=workload.sharding.gradients)


def _state_bytes(workload: Workload) -> float:
    states = workload.optimizer.state_bytes * _trained_bytes(workload) / workload.training.parameter_bytes
    return states * workload.sharding.share(of=workload.sharding.states)


def _phases(workload: Workload) -> tuple[_Phase, ...]:
    tokens, shape = workload.peak_tokens / workload.sharding.tensor_parallel, workload.shape
    gradients = _gradient_bytes(workload)
    first = gradients if workload.accumulation > 1 else _head_gradient(workload)
    if workload.optimizer.in_backward:
        gradients = _head_gradient(workload)
    repeated = repeated_bytes(workload) * workload.spared_tokens / workload.sharding.tensor_parallel
    rebuilt, made_again = rebuilt_bytes(workload), remade_bytes(workload)
    kept = shape.num_layers * (checkpoint_bytes(workload) * tokens + kept_share(workload) * (repeated + rebuilt))
    block = block_bytes(workload) * tokens + repeated + rebuilt + made_again
    working = backward_bytes(workload) * tokens + REBUILT_GRADIENT * adapted_expert_bytes(workload)
    again = made_again if workload.checkpointing == "no" else block
    copies = _layer_copies(workload)
    # an MLP in one function has all its gradients before it lets go of what it computed them of
    to_come = 0.0 if workload.one_pass_mlp else _gradient_bytes(workload, block=True)
    logits = loss_bytes(workload, tokens * workload.computed_learned_share)
    step = _trained_bytes(workload) if workload.optimizer.foreach else 0.0
    return (
        _Phase(name="loss", gradients=first, logits=logits, temporaries=copies,
               activations=kept + last_hidden_bytes(workload) * tokens),
        _Phase(name="backward pass of the last block", gradients=first, temporaries=copies,
               activations=kept + again + working),
        _Phase(name="backward pass of the first block", temporaries=copies, activations=block + working,
               gradients=max(first, gradients - to_come)),
        _validation_phase(workload),
        _Phase(name="optimizer step", gradients=gradients,
               temporaries=step * workload.sharding.share(of=workload.sharding.states)),
    )  # fmt: skip


def _validation_phase(workload: Workload) -> _Phase:
    tokens = workload.validation_tokens
    learned = tokens * workload.learned_share
    plain = VALIDATION_LOGIT_BYTES * workload.shape.vocab_size * learned
    logits = loss_bytes(workload, learned) if workload.loss in OWN_LOSSES else plain
    return _Phase(name="validation", activations=backward_bytes(workload) * tokens, logits=logits)


def _head_gradient(workload: Workload) -> float:
    """The output matrix's gradient, which comes first of all."""
    trained = isinstance(workload.training, FullTraining) or workload.training.trained_embeddings
    matrix = workload.shape.vocab_size * workload.shape.hidden_size
    return workload.compute_bytes * matrix / workload.sharding.tensor_parallel if trained else 0.0


def _layer_copies(workload: Workload) -> float:
    """Whole copies of a block's weights that live for the length of a product: gathered, cast, or dequantised."""
    shape = workload.shape
    if workload.sharding.weights:
        return 2.0 * workload.compute_bytes * block_parameters(shape)
    widest = shape.hidden_size * max(shape.intermediate_size, shape.num_attention_heads * shape.head_dim)
    copies = workload.compute_bytes * widest if workload.quantised else 0.0
    match workload.training:
        case Adapters(rebuilds_weights=True, targets=targets):
            return copies + workload.compute_bytes * count_targeted_parameters(shape, targets=targets)
        case FullTraining(parameter_bytes=width) if width > workload.compute_bytes:
            # autocast keeps the 16-bit copy of every matrix it has met until the pass ends
            return workload.compute_bytes * workload.num_parameters
        case Adapters(parameter_bytes=width, copied_bytes=copied, num_parameters=trained) if copied < width:
            # autocast casts the adapters' weights, where otherwise their inputs are cast
            return copies + (workload.compute_bytes * trained if width > workload.compute_bytes else 0)
        case _:
            return copies


BASE_SPREAD = 0.13
"""Half-width of the 90 % interval where every input is stated."""
MOVING_SPREAD = 0.12
"""As much more, times the share of activations, logits and temporaries in the peak: they depend on the software."""
GUESS_SPREAD = {
    "length": 0.20, "shape": 0.10, "targets": 0.06, "checkpointing": 0.25, "loss": 0.10, "attention": 0.08,
    "dtype": 0.10, "optimizer": 0.10, "method": 0.08, "upcast": 0.12, "sharding": 0.15, "micro_batch": 0.25,
}  # fmt: skip
"""What an unstated input adds, as independent errors."""


def spread_of(workload: Workload, moving_share: float) -> float:
    """Give the half-width of the 90 % interval as a share of the middle."""
    terms = [BASE_SPREAD, MOVING_SPREAD * moving_share, *(GUESS_SPREAD.get(name, 0.05) for name in workload.guessed)]
    if workload.sharding.num_gpus > 1:
        terms.append(0.12)
    return math.sqrt(sum(term * term for term in terms))


def _interval(middle: float, below: float, above: float, floor: float) -> Interval:
    return Interval(low=max(min(floor, middle), middle / (1 + below)), mid=middle, high=middle * (1 + above))
