"""Small values that several documents are made of."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from finetune_exe.domain.document import Value

Confidence = Literal["high", "medium", "low"]
Scalar = str | int | float | bool | None
Leaf = Scalar | tuple[Scalar, ...]


class Interval(Value):
    """A number we do not know exactly: a middle value and the bounds meant to hold nine times in ten."""

    low: float
    mid: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.mid <= self.high:
            raise ValueError(f"an interval needs low <= mid <= high, not {self.low}, {self.mid}, {self.high}")
        return self

    def contains(self, value: float) -> bool:
        """Say whether `value` lies inside the bounds."""
        return self.low <= value <= self.high


class Estimate(Value):
    """A prediction with its reason, to be scored against what is measured later."""

    value: Interval
    unit: Literal["bytes", "seconds", "tokens_per_second", "usd"]
    reason: str
    source: str
    parts: dict[str, float] = Field(default_factory=dict)
    """The terms that add up to `value.mid`, in the same unit; empty where it is no sum."""
    holds_for: str | None = None
    """Name of the settings it was measured under; with others it is computed anew. None for what is computed anyway."""


class Decision(Value):
    """Why one leaf of the plan has the value it has."""

    value: Leaf
    """The value advised; where the plan's own differs, the user changed it."""
    reason: str
    source: str
    """Paper, repository, measurement, or "you" for a value the user set."""
    confidence: Confidence
    interval: Interval | None = None
    """Range in which the best value is expected, for numbers."""
    alternatives: tuple[str, ...] = ()
    """What else was considered, each with the reason it lost."""
    would_change: str | None = None
    """What, if it turned out so, would change the advice."""


class Check(Value):
    """One thing looked at: passed, failed, or open (None: not measured, or nothing follows), with what was seen."""

    name: str
    passed: bool | None
    detail: str
    fix: str | None = None
    """What would turn a failure green, or decide what is open."""


class LatentAttention(Value):
    """Keys and values made of a few numbers for each token, as DeepSeek's are; the shape's head is that of values."""

    query_rank: int | None = None
    """Numbers that a query is made of; None where it is made of the hidden state."""
    key_value_rank: int = Field(gt=0)
    """Numbers that keys and values are made of."""
    rotary_head_dim: int = Field(gt=0)
    """Width of the part of a query and a key that knows its position."""
    plain_head_dim: int = Field(gt=0)
    """Width of the part that does not."""


class RecurrentLinear(Value):
    """A linear layer of a block that sums up what it reads."""

    fan_in: int = Field(gt=0)
    fan_out: int = Field(gt=0)
    called: bool = True
    """Whether it is called; otherwise its weights are used without that, and no adapter goes beside it."""


class Recurrence(Value):
    """Layers that sum up in a state what they read: state-space layers, and linear attention."""

    layers: int = Field(gt=0)
    """Layers that have it, beside attention or in its stead."""
    linear: tuple[RecurrentLinear, ...]
    """Linear layers of each."""


class ModelShape(Value):
    """Dimensions of a decoder-only transformer, enough to count its parameters, memory and work."""

    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    tied_embeddings: bool
    """Whether the output matrix is the embedding matrix."""
    gated_mlp: bool = True
    """Whether the MLP has three matrices (SwiGLU, GeGLU) rather than two."""
    num_experts: int = Field(default=1, gt=0)
    """MLP copies in each layer, each as wide as `intermediate_size`; 1 for a dense model."""
    experts_per_token: int = Field(default=1, gt=0)
    """Experts that each token runs through."""
    shared_intermediate_size: int = Field(default=0, ge=0)
    """Width of the MLP that every token runs through beside the experts; 0 where there is none."""
    dense_layers: int = Field(default=0, ge=0)
    """Layers with one MLP of `dense_intermediate_size` in the experts' place."""
    dense_intermediate_size: int = Field(default=0, ge=0)
    """Width of that MLP; 0 where every layer has experts, or none has."""
    fused: tuple[Literal["qkv", "gate_up"], ...] = ()
    """Projections that are kept as one matrix: query, key and value; gate and up of what is no expert."""
    latent_attention: LatentAttention | None = None
    """How keys and values are made, where not of the hidden state itself."""
    recurrence: Recurrence | None = None
    """Layers that look back by a state; None where all look back by attention."""
    attention_layers: int | None = Field(default=None, ge=0)
    """Layers with attention; None for all."""
    mlp_layers: int | None = Field(default=None, ge=0)
    """Layers with an MLP or experts; None for all."""
    gated_attention: bool = False
    """Whether queries come with as wide a gate of what was read."""
    other_parameters: int = Field(default=0, ge=0)
    """Weights of all layers beside linear layers, experts, what chooses them, and the usual norms: convolutions,
    states, biases, further norms and gates. Counted in models with a recurrence."""

    @property
    def num_attention_layers(self) -> int:
        """Layers with attention."""
        return self.num_layers if self.attention_layers is None else self.attention_layers

    @property
    def num_mlp_layers(self) -> int:
        """Layers with an MLP or experts."""
        return self.num_layers if self.mlp_layers is None else self.mlp_layers

    @property
    def num_norms(self) -> int:
        """Norms of all layers: one before what looks back, one before the MLP."""
        recurrent = 0 if self.recurrence is None else self.recurrence.layers
        return min(self.num_layers, self.num_attention_layers + recurrent) + self.num_mlp_layers


class Gpu(Value):
    """One accelerator."""

    name: str
    memory_bytes: int
    bf16: bool
    """Whether it computes bfloat16 in hardware (NVIDIA compute capability 8.0 and later)."""


class Hardware(Value):
    """The machine a run is planned for."""

    cpu: str
    num_cores: int
    memory_bytes: int
    cpu_features: tuple[str, ...] = ()
    """Instruction sets that matter here: avx2, avx512f, avx512_bf16, amx_bf16."""
    gpus: tuple[Gpu, ...] = ()
    matrix_flops_per_second: float | None = None
    """Operations a second of large matrix products on all cores, in the format that training uses; None where it was
    not measured."""
    disk_free_bytes: int | None = None
    """Room where runs are written; None for a machine that is only wished for."""

    @property
    def accelerator_memory_bytes(self) -> int:
        """Memory a run may use: of one GPU where there is one, of the machine otherwise."""
        return self.gpus[0].memory_bytes if self.gpus else self.memory_bytes

    @property
    def processor(self) -> str:
        """Name of what trains: a GPU where there is one."""
        return self.gpus[0].name if self.gpus else self.cpu

    @property
    def computes_bf16(self) -> bool:
        """Whether the processor that trains has bfloat16 in hardware."""
        if self.gpus:
            return self.gpus[0].bf16
        return bool({"avx512_bf16", "amx_bf16"} & set(self.cpu_features))
