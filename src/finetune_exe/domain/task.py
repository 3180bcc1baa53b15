"""What the user asked for, and what their data shows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from finetune_exe.domain.document import Document, Value

TaskType = Literal[
    "classification", "qa", "generation", "translation", "extraction", "rewriting",
    "reasoning", "summarization", "code", "completion", "chat", "other",
]  # fmt: skip
FormatName = Literal["alpaca", "chatml", "sharegpt", "prompt_completion", "completion"]


class DataProfile(Value):
    """What a quick look at the user's rows shows, without a tokenizer."""

    format: FormatName
    format_evidence: tuple[str, ...]
    """Why this format and no other, a phrase each."""
    num_rows: int
    num_unreadable: int
    """Lines that are no row at all; each is named again by `fine-tune dataset`."""
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


class TaskSpec(Document):
    """The question `analyze` answers."""

    description: str = Field(min_length=1)
    data_paths: tuple[str, ...] = ()
    model: str | None = None
    """Base model wished for: hub id, folder, GGUF file, or "embedded"."""
    gpu: str | None = None
    """Hardware wished for, as in "RTX 4090" or "8xH100"; None means this machine."""
    method: Literal["lora", "full"] | None = None
    preset: Literal["auto", "conservative", "balanced", "aggressive"] = "auto"
