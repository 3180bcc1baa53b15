"""One training run as the arithmetic sees it: everything that memory and speed depend on, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from finetune_exe.domain.values import ModelShape
from finetune_exe.estimate.parameters import Target
from finetune_exe.knowledge.gpus import GpuFacts

Storage = Literal["float32", "bfloat16", "fp8", "int8", "int4", "nf4", "nf4-dq", "q4_0", "q4_1", "mxfp4"]
"""What the model's weights are kept in; -dq has its scales quantised too."""

STORED_BYTES: dict[Storage, float] = {
    "float32": 4.0,
    "bfloat16": 2.0,
    "fp8": 2.0,
    "int8": 1.0,
    "int4": 0.5 + 2.5 / 128,
    "nf4": 0.5 + 4 / 64,
    "nf4-dq": 0.5 + 1 / 64 + 4 / (64 * 256),
    "q4_0": 0.5 + 2 / 32,
    "q4_1": 0.5 + 4 / 32,
    "mxfp4": 0.5 + 1 / 32,
}
"""Bytes a weight of a linear layer. The scale of a block is float32 for each 64 weights in NormalFloat, itself in 8 bit
for each 256 of them with double quantisation; GPTQ and AWQ keep scale and zero point for groups of 128; blocks of 32
have a scale in float16, a scale and a least value, or 8 bit of exponent. Training in 8-bit floating point still stores
16 bit.

Source: Dettmers et al. 2023, QLoRA, section 3; Frantar et al. 2022, GPTQ; llama.cpp, ggml-common.h, block_q4_0 and
block_q4_1; OCP Microscaling Formats 1.0 (2023), section 5."""

DORA_OUTPUT_BYTES = 6
"""DoRA keeps the frozen layer's output in 16 bit and the adapter's in float32, to scale both."""
DORA_TOUCHES = 8.0
"""Times that a pass reads or writes an adapted weight for DoRA's lengths.

Source: PEFT method comparison on L40S, seconds beyond plain LoRA on the same layers, over the GPU's bandwidth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FullTraining:
    """Every weight moves."""

    parameter_bytes: int
    """Of a trained weight and of its gradient."""
    master_bytes: int = 0
    """Of a copy in float32 that the optimizer keeps beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """A frozen model with small trained matrices or vectors beside some layers."""

    targets: frozenset[Target]
    num_parameters: int
    parameter_bytes: int
    copied_bytes: int
    """Bytes for each number of an adapted layer's input that its adapter keeps as a copy of its own; 0 shares it."""
    output_bytes: int = 0
    """Bytes for each number of an adapted layer's output that is kept to scale it (DoRA)."""
    weight_touches: float = 0.0
    """Times that a pass reads or writes each adapted weight to rebuild it (DoRA, BOFT, LoHa and kin)."""
    rebuilds_weights: bool = False
    """Whether a rebuilt copy of each adapted weight is kept for the backward pass."""
    rebuilds_experts: bool = False
    """Whether a block's experts are one tensor, which is added up with its adapters before it is multiplied and kept
    so; a quantised one is made whole, and made again in the backward pass."""
    dropout: bool = False
    """Whether dropout keeps a thinned copy and a mask of each adapted input."""
    trained_embeddings: bool = False
    """Whether embedding and output matrix are trained as well."""
    virtual_tokens: int = 0
    """Learned positions put before every row."""


Training = FullTraining | Adapters


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerKind:
    """What the optimizer holds and touches."""

    state_bytes: float
    """For each trained weight."""
    foreach: bool = True
    """Whether the step writes a temporary as large as the trained weights; fused and 8-bit kernels do not."""
    in_backward: bool = False
    """Whether it steps as soon as a gradient is there, so that no two of them live at once."""
    paged: bool = False
    """Whether its states lie outside the allocator's pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharding:
    """What is cut up among GPUs."""

    num_gpus: int = 1
    weights: bool = False
    gradients: bool = False
    states: bool = False
    tensor_parallel: int = 1
    """GPUs that share each matrix product."""

    def share(self, *, of: bool) -> float:
        """Give the part of something that one GPU holds, where `of` says whether it is cut up."""
        return 1 / self.num_gpus if of else 1 / self.tensor_parallel


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A training run on one kind of GPU, or on the CPU where `gpu` is None and `cpu` is set."""

    shape: ModelShape
    num_parameters: int
    storage: Storage
    unquantised_bytes: float = 2
    """Of a weight of the embeddings and the output matrix where the rest is quantised."""
    compute_bytes: int = 2
    """Of a number in matrix products and activations."""
    stream_bytes: float = 2
    """Of a number in the sum that runs from block to block; embeddings in float32 make it 4."""
    training: Training
    optimizer: OptimizerKind
    micro_batch_size: int
    longest_tokens: float
    """Tokens a row in the longest batch, padding included: they set the memory."""
    mean_tokens: float
    """Real tokens a row on average: they set the speed."""
    shared_tokens: float = 0.0
    """Tokens that each row of a pass but the first begins with as another, and that are not computed for it."""
    ours_on_gpu: bool = False
    """Whether this trainer computes on a GPU: shared keys are copied to each row, and the loss takes more at once."""
    padded_share: float = 0.0
    """Share of the tokens computed on average that are padding."""
    accumulation: float = 1
    """Passes whose gradients are summed before a step."""
    checkpointing: Literal["no", "full", "selective", "offload"] = "no"
    recomputed_layers: float = 1.0
    """Share of the layers that full checkpointing computes again; the others keep everything."""
    reference_passes: float = 0.0
    """Forward passes without a backward pass that a step makes besides: of the model as it was, for pairs."""
    tf32: bool = True
    """Whether products of float32 may round their factors to 10 bits."""
    attention: Literal["fused", "eager"] = "fused"
    one_pass_norms: bool = False
    """Whether norms keep their input alone though nothing is compiled, as this trainer's do."""
    one_pass_mlp: bool = False
    """Whether a gated MLP keeps its input, gate and up projection alone."""
    loss: Literal["full", "kernel", "chunked", "fused", "sliced", "in_place"] = "full"
    """How cross-entropy goes: all logits in float32, in one kernel, in pieces, or without ever holding them."""
    learned_share: float = 1.0
    """Share of the rows' tokens whose logits are computed."""
    validation_tokens: float = 0.0
    """Tokens of a batch of the validation pass; 0 where nothing is known of one."""
    quantised_saves_inputs: bool = False
    """Whether 4-bit layers keep their inputs for the backward pass though nothing needs them."""
    compiled: bool = False
    fp8: bool = False
    """Whether matrix products run in 8-bit floating point."""
    sharding: Sharding = field(default_factory=Sharding)
    gpu: GpuFacts | None = None
    guessed: frozenset[str] = frozenset()
    """Inputs nobody stated; each widens the intervals."""

    @property
    def quantised(self) -> bool:
        """Whether weights must be made whole before they are multiplied."""
        return self.storage not in ("float32", "bfloat16", "fp8")

    @property
    def spared_tokens(self) -> float:
        """Tokens of a pass that are not computed, because the first row has them."""
        return (self.micro_batch_size - 1) * self.shared_tokens

    @property
    def computed_learned_share(self) -> float:
        """Share of the computed tokens whose logits are computed."""
        real = self.micro_batch_size * self.mean_tokens
        return min(1.0, self.learned_share * real / (real - self.spared_tokens))

    @property
    def attended_tokens(self) -> float:
        """Twice the keys that a computed token is held against on average: a row's length, where nothing is shared."""
        real = self.micro_batch_size * self.mean_tokens
        spared = self.spared_tokens * self.shared_tokens
        return (real * self.mean_tokens - spared) / (real - self.spared_tokens)

    @property
    def peak_tokens(self) -> float:
        """Tokens in the longest batch."""
        virtual = self.training.virtual_tokens if isinstance(self.training, Adapters) else 0
        return self.micro_batch_size * (self.longest_tokens + virtual) - self.spared_tokens

    @property
    def computed_tokens(self) -> float:
        """Tokens of a micro-batch of average rows, padding and learned positions included."""
        virtual = self.training.virtual_tokens if isinstance(self.training, Adapters) else 0
        return self.micro_batch_size * (self.mean_tokens * (1 + self.padded_share) + virtual) - self.spared_tokens

    @property
    def fuses_norms(self) -> bool:
        """Whether norms run as one kernel that keeps only its input: compiled stacks, and those that fuse the loss."""
        return self.one_pass_norms or self.compiled or self.loss in ("kernel", "fused")

    @property
    def num_trained(self) -> int:
        """Weights that move, trained copies of embedding and output matrix aside."""
        if isinstance(self.training, FullTraining):
            return self.num_parameters
        return self.training.num_parameters

    @property
    def num_trained_embeddings(self) -> int:
        """Weights of embedding and output matrix that an adapter method trains in copies, in the model's own format."""
        trained = isinstance(self.training, Adapters) and self.training.trained_embeddings
        return 2 * self.shape.vocab_size * self.shape.hidden_size if trained else 0
