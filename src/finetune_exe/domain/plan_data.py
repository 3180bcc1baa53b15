"""The group `data` of a plan: where the rows come from and what becomes of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finetune_exe.domain.document import Value
from finetune_exe.domain.task import FormatName

OnTooLong = Literal["drop", "truncate_prompt", "refuse"]
CanaryCopies = Annotated[int, Field(ge=1, le=1000)]
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
