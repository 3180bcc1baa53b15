"""Layouts that are read but not written: their rows hold more than a conversation, or ask for none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.formats.format import Evidence, Row, cannot_carry, not_an_object, share

if TYPE_CHECKING:
    from finetune_exe.domain.task import FormatName


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOnlyFormat:
    """A layout given by two functions: one that recognises its rows, and one that reads them."""

    name: FormatName
    needs: str
    shows: str
    """What is said of the rows where they are recognised."""
    claims: Callable[[dict[str, Any]], bool]
    build: Callable[[dict[str, Any]], Conversation | RowFault]

    def detect(self, rows: Sequence[Row]) -> Evidence:
        """Count the rows that are recognised."""
        found = sum(isinstance(row, dict) and self.claims(row) for row in rows)
        if not found:
            return Evidence(score=0.0, phrases=())
        return Evidence(score=found / len(rows), phrases=(f"{share(found, len(rows))} {self.shows}",))

    def read(self, row: Row) -> Conversation | RowFault:
        """Read the conversation in a row; the row itself is kept to be written back."""
        if not isinstance(row, dict):
            return not_an_object(row)
        built = self.build(row)
        return built if isinstance(built, RowFault) else replace(built, origin={"format": self.name, "row": row})

    def write(self, conversation: Conversation) -> Row | RowFault:
        """Give a row back as it was, as long as nothing was changed in it."""
        row = own_row(self, conversation)
        return cannot_carry(self.name, "rows of other layouts: it is only read") if row is None else row


def own_row(layout: Any, conversation: Conversation) -> Row | None:
    """Give the row that a conversation was read from, unless it was changed since, or came from another layout."""
    if conversation.origin.get("format") != layout.name or "row" not in conversation.origin:
        return None
    row: Row = conversation.origin["row"]
    read = layout.read(row)
    same = isinstance(read, Conversation) and replace(read, notes=()) == replace(conversation, notes=())
    return row if same else None


def question_and_answer(question: str, answer: str, *, row: dict[str, Any], used: Sequence[str]) -> Conversation:
    """Make a conversation of two turns; columns that were not used stay beside it."""
    return Conversation(
        kind="chat",
        messages=(Message(role="user", content=question), Message(role="assistant", content=answer)),
        extra={key: value for key, value in row.items() if key not in used},
    )
