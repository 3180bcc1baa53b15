"""What a check is: one kind of fault, how it is found, and how it is mended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from finetune_exe.data.checks.row import RowView
from finetune_exe.data.layout import LAYOUTS, Layout
from finetune_exe.text.conversation import Conversation

if TYPE_CHECKING:
    from finetune_exe.data.checks.facts import Facts

Severity = Literal["error", "warning", "info"]
"""Error: a provable fault. Warning: very probably one. Info: advice, or the way this data is."""
EXTRACT_CHARACTERS = 80
"""Length of the extracts that findings quote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCheck:
    """A fault that shows in one row alone."""

    code: str
    severity: Severity
    message: str
    """What is wrong, said of several rows."""
    fix: str
    find: Callable[[RowView], str | None]
    """Gives what shows the fault, to quote (it may be empty), or None for a row without it."""
    likely: tuple[str, ...] = ()
    """How quotations of rows begin that only very probably have the fault: warnings, where others are errors."""
    layouts: frozenset[Layout] = LAYOUTS
    """Rows of another layout cannot have the fault."""
    usual: float | None = None
    """Share of the rows above which it is no slip but the way this data is: the finding is info then."""
    example: Conversation
    """A row that has the fault."""
    counterexample: Conversation
    """A row that looks like it and has not."""


class Hit(NamedTuple):
    """One row with a fault."""

    row: int
    """Number of the record."""
    extract: str = ""
    of_row: int | None = None
    """The other row, where the fault is one of two."""
    likely: bool = False
    """Whether the fault is very probable, and not proven as those of its code are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCheck:
    """A fault that shows only beside the other rows."""

    code: str
    severity: Severity
    message: str
    fix: str
    find: Callable[[Facts], Iterable[Hit]]
    usual: float | None = None
    example: Sequence[Conversation]
    """Rows some of which have the fault."""
    counterexample: Sequence[Conversation]
    """Rows that look like them and have not."""


Check = RowCheck | DataCheck


def shorten(text: str, start: int = 0) -> str:
    """Quote the neighbourhood of a place in a text, on one line."""
    first = max(0, start - EXTRACT_CHARACTERS // 4)
    piece = " ".join(text[first : first + EXTRACT_CHARACTERS].split())
    return ("..." if first else "") + piece + ("..." if first + EXTRACT_CHARACTERS < len(text) else "")


def mask(value: str) -> str:
    """Show only the ends of what should be kept secret."""
    shown = min(4, len(value) // 4)
    return f"{value[:shown]}***{value[len(value) - shown // 2 :]}"
