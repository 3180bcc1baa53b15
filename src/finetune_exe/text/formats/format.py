"""What a dataset format is, and the faults a row can have whatever its format."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from finetune_exe.text.conversation import Conversation, RowFault

if TYPE_CHECKING:
    from finetune_exe.domain.task import FormatName

Row = dict[str, Any] | list[Any] | str
"""One record as its file holds it: an object, a bare list of messages, or a bare string."""

MOST_NAMED = 12
MOST_CHARACTERS = 60
"""Keys, and characters of one, that a message names: a table may have thousands of columns, whose names are texts."""
CHOICES = ("choices", "options", "endings")
"""Columns that hold the answers to choose from."""
JUDGED_KEYS = frozenset({
    "chosen", "rejected", "chosen_messages", "rejected_messages", "chosen_response", "rejected_response",
    "rejected_output",
})  # fmt: skip
"""Columns that hold one of a pair of answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """How well a sample of rows fits a format."""

    score: float
    """Share of the rows that have the form, 0 to 1."""
    phrases: tuple[str, ...]
    """What was seen, a phrase each; empty where nothing fits."""


class Format(Protocol):
    """One way to lay out a row. `write(read(row)) == row` holds for every row that can be read."""

    @property
    def name(self) -> FormatName:
        """The name users give on the command line."""
        ...

    @property
    def needs(self) -> str:
        """The columns a row must have, for a person."""
        ...

    def detect(self, rows: Sequence[Row]) -> Evidence:
        """Say how many of the rows have this form, from their keys alone."""
        ...

    def read(self, row: Row) -> Conversation | RowFault:
        """Turn a row into a conversation, or say why it is none."""
        ...

    def write(self, conversation: Conversation) -> Row | RowFault:
        """Turn a conversation into a row, or say what this format cannot carry."""
        ...


def share(part: int, whole: int) -> str:
    """Say "all 20 rows" or "18 of 20 rows"."""
    return f"all {whole:,} rows" if part == whole else f"{part:,} of {whole:,} rows"


def missing_key(row: dict[str, Any], wanted: str) -> RowFault:
    """Say that a column is not there, and which are."""
    return RowFault(
        code="missing_key", message=f"the row has no {wanted}; its keys are {named(row)}", fix=f"add {wanted}"
    )


def named(keys: Iterable[str]) -> str:
    """List keys for a person, the first twelve of many, each cut where it is long."""
    names = [
        repr(key if len(key) <= MOST_CHARACTERS else f"{key[:MOST_CHARACTERS]}...")
        for key in islice(keys, MOST_NAMED + 1)
    ]
    return ", ".join([*names[:MOST_NAMED], *(["and more"] if len(names) > MOST_NAMED else [])]) or "none"


def not_an_object(row: list[Any] | str) -> RowFault:
    """Say that the row is a bare list or a bare string where columns are needed."""
    code, kind = ("bare_array", "list") if isinstance(row, list) else ("bare_string", "string")
    return RowFault(
        code=code, message=f"the row is a bare {kind}, not an object with columns", fix="put it in an object"
    )


def content_fault(column: str, value: object) -> RowFault:
    """Say that a value that should be text is null or something else."""
    if value is None:
        return RowFault(code="null_content", message=f"{column!r} is null", fix="write the text, or drop the row")
    kind = type(value).__name__
    return RowFault(
        code="non_string_content", message=f"{column!r} is a {kind}, not text", fix="write the value as a string"
    )


def cannot_carry(target: FormatName, what: str, *, fix: str | None = None) -> RowFault:
    """Say that a target format has no place for part of a conversation.

    Args:
        target: The format.
        what: The part.
        fix: Which format has a place for it; None for chatml, which has one for every chat.
    """
    usual = "leave the row as it is" if target == "chatml" else "convert to chatml, which carries every chat"
    return RowFault(code="cannot_convert", message=f"{target} has no place for {what}", fix=fix or usual)


def is_judged(row: dict[str, Any]) -> bool:
    """Say whether a row marks its one answer as good or bad."""
    label = row.get("label", row.get("kto_tag"))
    return isinstance(label, bool) and any(
        isinstance(row.get(answer), str | list) for answer in ("completion", "response", "messages", "conversations")
    )


def judged(target: FormatName, conversation: Conversation) -> RowFault | None:
    """Say that a target for single answers has no place for what a judge said of them."""
    if conversation.rejected:
        keep = "keep the row in preference, which carries both answers, or take the rejected one out"
        return cannot_carry(target, "a second, rejected answer", fix=keep)
    if conversation.label is None:
        return None
    keep = "keep the row in kto, which carries the mark, or take it out"
    return cannot_carry(target, "the mark of a judged answer", fix=keep)


def colliding(target: FormatName, own: Collection[str], extra: Collection[str]) -> RowFault | None:
    """Say that a column kept from the source bears a name the target needs for itself."""
    clash = sorted(set(own) & set(extra))
    return cannot_carry(target, f"a second column called {clash[0]!r}") if clash else None
