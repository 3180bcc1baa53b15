"""What cleaning would do, shown before it is done."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from finetune_exe.domain.dataset import Drop
from finetune_exe.domain.document import Document, Value


class ShownRow(Value):
    """One row that would be dropped or repaired."""

    source: str
    """Where it stands: file:line."""
    before: tuple[str, ...]
    """What it says, turn by turn; of a line that is no row, the line."""
    after: tuple[str, ...] | None = None
    """What it would say; None for a row that would be dropped."""


class Repaired(Value):
    """Rows that would be kept after a repair; a row repaired twice counts under both."""

    code: str
    count: int
    first: str
    """Where the first of them is: file:line."""
    message: str


class CleaningPreview(Document):
    """What `fine-tune dataset --dry-run` found."""

    seen: int
    kept: int
    num_repaired: int
    """Rows among the kept ones that would be repaired in some way."""
    dropped: tuple[Drop, ...]
    repaired: tuple[Repaired, ...]
    shown: dict[str, tuple[ShownRow, ...]]
    """The first rows of each kind, by code; repaired rows by the first repair made."""

    @model_validator(mode="after")
    def _every_row_accounted_for(self) -> Self:
        dropped = sum(drop.count for drop in self.dropped)
        if self.seen != self.kept + dropped:
            raise ValueError(f"seen {self.seen} is not kept {self.kept} plus dropped {dropped}")
        return self
