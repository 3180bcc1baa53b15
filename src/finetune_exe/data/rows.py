"""Rows on their way from a file to the shards: kept or lost, and what was mended in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from finetune_exe.text.conversation import Conversation, RowFault
from finetune_exe.text.formats.format import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a row stands."""

    source: int
    """Number of its source, from 0."""
    index: int
    """Number of the row among all rows of all sources, from 0; unreadable ones count."""
    place: str
    """file:line, for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One kind of fault that was repaired in a row."""

    code: str
    before: Conversation
    """The row just before this repair."""


class Mended(NamedTuple):
    """A row after its repairs, in their order."""

    conversation: Conversation
    repairs: tuple[Repair, ...] = ()


Mend = Callable[[Conversation], Mended]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRow:
    """A row that is a conversation."""

    position: Position
    conversation: Conversation
    key: str
    """What it says, as `content_key` names it."""
    repairs: tuple[Repair, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LostRow:
    """A row that cannot be used, and why."""

    position: Position
    fault: RowFault
    row: Row
    """The row, or the text of a line that is none."""
