"""How much memory a run takes at its peak."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_exe.domain.plan import Full, Lora, Plan
from finetune_exe.domain.values import Estimate, Interval, ModelShape
from finetune_exe.estimate.parameters import count_lora_parameters, count_parameters
from finetune_exe.estimate.rows import learned_share, tokens_of
from finetune_exe.units import GIB

_CPU_RUNTIME_BYTES = 0.75 * GIB
_CPU_HEAP_SLACK = 0.4
"""Share of the activations and logits that the C library's heap holds beside them, as batches are of uneven length.

Source: this trainer on SmolLM2-135M, 8 rows of up to 256 tokens: 3.8 to 4.9 GiB resident where 3.3 were counted.
"""
_SOURCE = (
    "counted from the model's dimensions; bytes of activations counted from the tensors that PyTorch 2.13 "
    "keeps for the backward pass of a Llama block under PEFT 0.21"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fixed:
    """Bytes that do not depend on the rows."""

    weights: float
    adapters: float
    gradients: float
    optimizer: float
    runtime: float

    @property
    def total(self) -> float:
        return self.weights + self.adapters + self.gradients + self.optimizer + self.runtime


def estimate_memory(plan: Plan) -> Estimate | None:
    """Estimate the largest memory the run holds: of the process on a CPU, allocated by PyTorch on a GPU.

    The parts are weights, adapters, gradients, AdamW's two states in float32, the activations kept for the backward
    pass, the logits (only where a token is learned, in float32), and the program itself. The low end is never below
    what weights, adapters, gradients and optimizer take.

    Returns:
        Bytes; None where the model's dimensions are unknown or it is a mixture of experts.
    """
    shape = plan.model.shape
    if shape is None or shape.num_experts > 1:
        return None
    fixed = _fixed_bytes(plan, shape)
    tokens = _peak_tokens(plan)
    share = learned_share(plan.profile)
    kept, scored = _activation_bytes(plan, shape), _logit_bytes(shape)
    low = tokens.low * (kept + scored * share.low)
    high = tokens.high * (kept + scored * share.high)
    loading = 0.0 if plan.hardware.gpus else fixed.weights
    slack = 0.0 if plan.hardware.gpus else _CPU_HEAP_SLACK
    parts = {
        "weights": fixed.weights,
        "adapters": fixed.adapters,
        "gradients": fixed.gradients,
        "optimizer": fixed.optimizer,
        "activations": float(round(tokens.mid * kept)),
        "logits": float(round(tokens.mid * scored * share.mid)),
        "heap": float(round(slack * tokens.mid * (kept + scored * share.mid))),
        "runtime": fixed.runtime,
    }
    return Estimate(
        value=Interval(
            low=float(round(fixed.total + 0.7 * low)),
            mid=sum(parts.values()),
            high=float(round(max(1.1 * fixed.total + (1.3 + slack) * high, fixed.total + loading))),
        ),
        unit="bytes",
        reason=f"a pass holds up to {tokens.mid:,.0f} tokens, about {100 * share.mid:.0f} % of them learned",
        source=_SOURCE,
        parts=parts,
    )


def _fixed_bytes(plan: Plan, shape: ModelShape) -> _Fixed:
    parameters = plan.model.num_parameters or count_parameters(shape)
    match plan.method:
        case Lora(lora_rank=rank):
            trained = count_lora_parameters(shape, rank=rank)
            weights = parameters * (2 if plan.precision.base_dtype == "bfloat16" else 4)
            adapters = 4.0 * trained
        case Full():
            # trained in float32; autocast keeps a bfloat16 copy of every matrix beside it
            trained = parameters
            weights = parameters * (6 if plan.precision.base_dtype == "bfloat16" else 4)
            adapters = 0.0
    return _Fixed(
        weights=float(weights),
        adapters=adapters,
        gradients=4.0 * trained,
        optimizer=8.0 * trained,
        runtime=0.0 if plan.hardware.gpus else _CPU_RUNTIME_BYTES,
    )


def _peak_tokens(plan: Plan) -> Interval:
    """Tokens in the longest batch, padding included: rows of like length come together, so all of them are long."""
    rows, longest = plan.batch.micro_batch_size, plan.data.max_length
    if plan.profile is None:
        return Interval(low=rows * longest / 4, mid=rows * longest, high=rows * longest)
    row = tokens_of(plan.profile.row_characters_p99, longest=longest)
    return Interval(low=rows * row.low, mid=rows * row.mid, high=rows * row.high)


def _activation_bytes(plan: Plan, shape: ModelShape) -> float:
    """Bytes kept for the backward pass, for each token."""
    block = _block_bytes(plan, shape)
    if not plan.precision.gradient_checkpointing:
        return shape.num_layers * block
    width = 2 if plan.precision.base_dtype == "bfloat16" and isinstance(plan.method, Lora) else 4
    return shape.num_layers * width * shape.hidden_size + block


def _block_bytes(plan: Plan, shape: ModelShape) -> float:
    """Bytes one block keeps for each token.

    In LoRA over bfloat16 weights each adapter keeps its own float32 copy of its input. Norms keep theirs in float32.
    """
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries, keys = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    half = plan.precision.base_dtype == "bfloat16"
    match plan.method:
        case Full():
            return 24 * hidden + (8 * inner + 6 * queries + 4 * keys if half else 16 * inner + 8 * queries + 8 * keys)
        case Lora(lora_rank=rank, lora_dropout=dropout):
            inputs = 5 * hidden + queries + inner
            if half:
                kept = 28 * hidden + 10 * inner + 8 * queries + 4 * keys
            else:
                kept = 16 * hidden + 16 * inner + 8 * queries + 8 * keys
            return kept + 28 * rank + ((4 if half else 6) * inputs if dropout else 0)


def _logit_bytes(shape: ModelShape) -> float:
    """Bytes for each learned token: logits, log-probabilities and gradient, each in float32."""
    return 12.0 * shape.vocab_size
