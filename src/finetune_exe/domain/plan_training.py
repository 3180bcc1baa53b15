"""The groups of a plan by which weights move: objective, optimizer, schedule, batch, precision, GPUs, checkpoints."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finetune_exe.domain.document import Value

BaseDtype = Literal["float32", "bfloat16", "float16"]


class Sft(Value):
    """Learn the answers as they stand: the likelier each of their tokens, the lower the loss."""

    kind: Literal["sft"] = "sft"
    """What the loss asks for."""


class Dpo(Value):
    """Learn from pairs: raise the better answer over the worse one, held against the model as it was."""

    kind: Literal["dpo"] = "dpo"
    """What the loss asks for."""
    beta: float = Field(default=0.1, gt=0)
    """How dear it is to move away from the model as it was; more keeps it closer."""


Objective = Annotated[Sft | Dpo, Field(discriminator="kind")]

OptimizerName = Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "lion", "adafactor"]


class Optimizer(Value):
    """The rule by which weights follow their gradients."""

    kind: OptimizerName = "adamw"
    """AdamW with its two states in float32 or in 8-bit blocks (8 or 2 bytes a trained weight), paged to the processor's
    memory where the GPU's is full; Lion with one state (4); Adafactor with sums over rows and columns (next to 0)."""
    learning_rate: float = Field(default=2e-4, gt=0, le=1)
    """Highest step size, reached when the warm-up ends."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Pull of the trained weights towards zero, by this share of the learning rate a step; norms, biases, factors of
    IA3 and trained embeddings of tokens are spared."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the running mean of the gradient; Adafactor has none."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the running mean of its square; of Lion's one state; Adafactor has a rule of its own."""
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Gradients are scaled down to this norm; None never scales."""


class WarmupFraction(Value):
    """Warm up over a share of all steps."""

    kind: Literal["fraction"] = "fraction"
    """Whether the warm-up is given as a share or as a number."""
    fraction: float = Field(ge=0, lt=1)
    """Share of all steps in which the learning rate rises."""


class WarmupSteps(Value):
    """Warm up over a number of steps."""

    kind: Literal["steps"] = "steps"
    """Whether the warm-up is given as a share or as a number."""
    steps: int = Field(ge=0)
    """Steps in which the learning rate rises."""


class Schedule(Value):
    """How long, and how the learning rate moves."""

    kind: Literal["cosine", "linear", "constant", "wsd", "inverse_sqrt"] = "cosine"
    """How the learning rate falls after the warm-up; wsd holds it, then falls linearly over the last steps."""
    epochs: float = Field(default=3.0, gt=0)
    """Passes over the training rows."""
    max_steps: int | None = Field(default=None, ge=1)
    """Stop after so many optimizer steps even if the epochs are not done; None never does."""
    warmup: Annotated[WarmupFraction | WarmupSteps, Field(discriminator="kind")] = WarmupFraction(fraction=0.03)
    decay_fraction: float = Field(default=0.2, gt=0, le=1)
    """Share of all steps, at the end, over which wsd falls; the other schedules do not look at it."""


class Batch(Value):
    """How rows are put together. Effective batch = micro_batch_size x gradient_accumulation_steps rows."""

    micro_batch_size: int = Field(default=4, ge=1)
    """Rows in one forward and backward pass."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """Passes before the optimizer moves; the loss is divided by the learned tokens of all of them together."""
    group_by_length: bool = True
    """Put rows of like length together, so that little is padded; the order of batches stays random."""
    packing: bool = False
    """Put the rows of a pass end to end instead of padding them; none sees another, each counts its own positions."""

    @property
    def effective(self) -> int:
        """Rows that one optimizer step learns from."""
        return self.micro_batch_size * self.gradient_accumulation_steps


class Precision(Value):
    """Number formats. What is trained is float32, or exact to as many bits, whatever the frozen weights are."""

    base_dtype: BaseDtype = "float32"
    """Format of the frozen weights, and of the matrix products. With float16 the loss is scaled so that small gradients
    do not vanish."""
    tf32: bool = True
    """On NVIDIA GPUs from Ampere on, let products of float32 round their factors to 10 bits: several times faster."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, about a third slower."""
    checkpoint_every_layers: int = Field(default=1, ge=1)
    """With gradient checkpointing, compute the first of every so many layers again: 2 saves and costs half."""


class Parallelism(Value):
    """How the work is spread over GPUs."""

    kind: Literal["none", "ddp", "fsdp", "deepspeed_zero2", "deepspeed_zero3"] = "none"
    """One GPU; the whole model on each (ddp); all cut up among them (fsdp); for other trainers DeepSpeed's ZeRO."""
    num_gpus: int = Field(default=1, ge=1)
    """GPUs, or processes without one, that train together; each step learns from that many times more rows."""

    @property
    def zero_stage(self) -> Literal[2, 3] | None:
        """Stage of DeepSpeed's ZeRO; None where it is not used."""
        match self.kind:
            case "deepspeed_zero2":
                return 2
            case "deepspeed_zero3":
                return 3
            case _:
                return None


class Checkpoints(Value):
    """When the run is measured and kept."""

    evaluations_per_epoch: float = Field(default=4.0, gt=0)
    """How often the validation loss is measured and a checkpoint considered."""
    keep_last: int = Field(default=2, ge=1)
    """Checkpoints kept besides the best one."""
    save_every_minutes: float | None = Field(default=None, gt=0)
    """Save between evaluations too, when the last checkpoint is so old; None saves after evaluations only."""
    save_every_steps: int | None = Field(default=None, ge=1)
    """The same, counted in steps."""
    go_back_on_spike: bool = False
    """Where a loss is 2.5 times the usual, go back to the last checkpoint and leave out the rows since."""
    early_stopping_patience: int | None = Field(default=3, ge=1)
    """Stop after so many evaluations without a better validation loss; None never does."""
    samples_per_evaluation: int = Field(default=3, ge=0)
    """Validation rows answered in a few words at an evaluation, to be read while the run goes on; 0 answers none."""
