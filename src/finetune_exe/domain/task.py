"""What the user asked for, and what their data shows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from finetune_exe.domain.document import Document, Value
from finetune_exe.domain.method_kinds import MethodKind

TextTask = Literal[
    "classification", "qa", "generation", "translation", "extraction", "rewriting",
    "reasoning", "summarization", "code", "completion", "chat",
]  # fmt: skip
TaskType = Literal[TextTask, "other"]
FormatName = Literal[
    "alpaca", "chatml", "sharegpt", "prompt_completion", "completion", "preference", "kto",
    "reply_tree", "seed_tasks", "squad", "multiple_choice", "annotated", "verified_prompts", "function_calls",
]  # fmt: skip
"""The layouts a row can have; those of the second line are read but not written."""
WRITTEN_FORMATS: tuple[FormatName, ...] = (
    "alpaca", "chatml", "sharegpt", "prompt_completion", "completion", "preference", "kto",
)  # fmt: skip
PresetName = Literal["conservative", "balanced", "aggressive"]
Preset = Literal["auto", PresetName]
"""A column of hyperparameters to take; "auto" follows task, data and model instead."""
AnswerKind = Literal["prose", "worked", "number", "json", "code", "sql", "empty"]
"""What an answer is by its form; "worked" is prose that ends in the number it arrives at."""


class PairCounts(Value):
    """What the two sequences of a pair are, with its better and with its worse answer; on average."""

    shared: float
    """Share of the better one's tokens that the worse one begins with too, and that may be computed once."""
    learned: float
    """Share of their tokens that are learned: of a pair only the answers in which they differ."""


class TokenCounts(Value):
    """How long rows are in the tokens of one model, its chat template included; counted on an even sample of them."""

    model: str
    """The model's reference in the plan."""
    num_rows: int
    """Rows that were counted."""
    lengths: tuple[int, ...]
    """Tokens of a row, ascending: evenly spaced order statistics, the shortest and the longest row among them."""
    learned_share: float
    """Share of all tokens that are learned."""
    shared_beginning: int = 0
    """Tokens that a row begins with as another of its pass does, on average of all rows of a pass but the first."""
    pairs: PairCounts | None = None
    """Of rows with a better and a worse answer, what they are as pairs; all else counts the better one alone."""


class DataProfile(Value):
    """What a quick look at the user's rows shows, without a tokenizer."""

    format: FormatName
    format_evidence: tuple[str, ...]
    """Why this format and no other, a phrase each."""
    num_rows: int
    num_unreadable: int
    """Lines that are no row at all; each is named again by `fine-tune dataset`."""
    num_unusable: int = 0
    """Rows that nothing can be learned from: not as their layout wants, or marked as bad; those without an answer are
    counted in `empty_answer_share`."""
    num_turns_mean: float
    """Messages in a row, on average."""
    prompt_characters_p50: int
    answer_characters_p50: int
    answer_characters_p95: int
    row_characters_mean: float
    row_characters_p99: int
    distinct_answers: int
    labels: tuple[str, ...] = ()
    """The labels, most frequent first, where the answers are a small closed set."""
    group_by: str | None = None
    """A column that says which rows belong together (document, user, module), where one was found."""
    row_characters_p50: int = 0
    row_characters_max: int = 0
    prompt_characters_p95: int = 0
    multi_turn_share: float = 0.0
    """Share of rows with more than one answer."""
    system_prompt_share: float = 0.0
    empty_answer_share: float = 0.0
    """Share of rows without an answer, of those that are as their layout wants."""
    thinking_share: float = 0.0
    """Share of the rows whose last answer begins with what it thinks."""
    duplicate_share: float = 0.0
    """Share of rows that say the same as an earlier one."""
    answer_kinds: dict[AnswerKind, float] = Field(default_factory=dict)
    """Share of rows by the form of their last answer, most frequent first."""
    languages: dict[str, float] = Field(default_factory=dict)
    """Share of the answers whose language can be told, by ISO 639-1 code, most frequent first; below 2 % left out."""
    translated_share: float = 0.0
    """Share of rows whose prompt and answer are in two different languages."""
    missing: tuple[str, ...] = ()
    """What the rows lack, most important first."""
    turns: str | None = None
    """Where nearly all texts are dialogues: what --turns takes to part them."""
    tokens: TokenCounts | None = None
    """Counted where the model's tokenizer is on this machine; otherwise tokens are judged from characters."""

    @property
    def mostly_thinks(self) -> bool:
        """Whether most answers begin with what they think."""
        return self.thinking_share > 1 / 2


class TaskSpec(Document):
    """The question `analyze` answers."""

    description: str = Field(min_length=1)
    task_type: TextTask | None = None
    """What kind of task it is; None reads it out of the data and the description."""
    data_paths: tuple[str, ...] = ()
    model: str | None = None
    """Base model wished for: hub id, folder, GGUF file, or "embedded"."""
    gpu: str | None = None
    """Hardware wished for, as in "RTX 4090" or "8xH100"; None means this machine."""
    method: MethodKind | None = None
    objective: Literal["dpo"] | None = None
    """Learn from pairs of a better and a worse answer; None learns answers as they stand."""
    preset: Preset = "auto"
    keep_abilities: bool = False
    """Whether what the model can do today matters as much as the new task."""
    permissive_license: bool = False
    """Whether only models under a licence without conditions on use (Apache-2.0, MIT, BSD) may be suggested."""
    budget_usd: float | None = Field(default=None, gt=0)
    """Most that the training may cost."""
    hours: float | None = Field(default=None, gt=0)
    """Longest that the training may take."""
    num_rows: int | None = Field(default=None, ge=1)
    """Rows that there will be; only without data."""
    heard: tuple[str, ...] = ()
    """Which of these were read in the description, a phrase each, with the words they were read in."""
