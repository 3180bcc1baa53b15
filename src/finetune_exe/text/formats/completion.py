"""Raw text to continue, for base models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.formats.format import (
    JUDGED_KEYS,
    Evidence,
    Row,
    cannot_carry,
    colliding,
    content_fault,
    judged,
    missing_key,
    named,
    not_an_object,
    share,
)

if TYPE_CHECKING:
    from finetune_exe.domain.task import FormatName

TEXT_COLUMNS = ("text", "content")
_RENDERED = re.compile(r"\s*(?:#{2,3} ?(?:Instruction|Human|User|Question)\b|<human>:|<\|im_start\|>|\[INST\])")
FOREIGN = frozenset({
    "instruction", "prompt", "question", "query", "messages", "conversations", "conversation", "chosen", "rejected",
    "completion", "answer", "output", "label", "labels", "category", "intent", "intents", "class", "sentiment",
    "slots", "spans", "entities", *JUDGED_KEYS,
})  # fmt: skip
"""Columns beside a text that show it to be more than a text."""
_ANSWERING = ("code", "solution", "response", "reply", "target", "summary", "highlights", "translation", "sql")
"""Likewise where they hold several words; a single one may be a mark of where the text is from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionFormat:
    """Rows that are one text each; the model learns all of it."""

    name: FormatName
    needs: str

    def detect(self, rows: Sequence[Row]) -> Evidence:
        """Count the rows that are a string or have a text column and nothing like a question or a label."""
        found = [column for row in rows if (column := self._claim(row)) is not None]
        if not found:
            return Evidence(score=0.0, phrases=())
        names = sorted({repr(column) if column else "a bare string" for column in found})
        phrases = [f"{share(len(found), len(rows))} hold one text, in {' or '.join(names)}"]
        others = {key for row in rows if isinstance(row, dict) for key in row} - set(found)
        if others:
            phrases.append(f"kept aside: {named(sorted(others))}")
        return Evidence(score=len(found) / len(rows), phrases=tuple(phrases))

    def _claim(self, row: Row) -> str | None:
        if isinstance(row, str):
            return ""
        if isinstance(row, list) or not FOREIGN.isdisjoint(key.casefold() for key in row):
            return None
        column = _text_column(row)
        if column is not None and column.casefold() in TEXT_COLUMNS and _is_answered(row):
            return None
        return column if column is not None and isinstance(row[column], str | None) else None

    def read(self, row: Row) -> Conversation | RowFault:
        """Read the text."""
        if isinstance(row, list):
            return not_an_object(row)
        if isinstance(row, str):
            return self._conversation(row, column=None, extra={})
        column = _text_column(row)
        if column is None:
            return missing_key(row, "'text'")
        text = row[column]
        if not isinstance(text, str):
            return content_fault(column, text)
        return self._conversation(text, column=column, extra={k: v for k, v in row.items() if k != column})

    def _conversation(self, text: str, *, column: str | None, extra: dict[str, Any]) -> Conversation:
        message = Message(role="assistant", content=text)
        return Conversation(
            kind="text", messages=(message,), extra=extra, origin={"format": self.name, "column": column}
        )

    def write(self, conversation: Conversation) -> Row | RowFault:
        """Write the text, under the column it came from."""
        lost = judged(self.name, conversation)
        if lost:
            return lost
        if conversation.kind == "chat":
            return cannot_carry(
                self.name, "turns", fix="convert to chatml: of a text all is learned, of turns the answers only"
            )
        text = conversation.messages[0].content
        column = conversation.origin.get("column", "text")
        if column is None and not conversation.extra:
            return text
        column = column or "text"
        return colliding(self.name, (column,), conversation.extra) or {column: text, **conversation.extra}


def _is_answered(row: dict[str, Any]) -> bool:
    said = (row.get(name) for name in _ANSWERING)
    return any(isinstance(text, str) and len(text.split(maxsplit=1)) > 1 for text in said)


def _text_column(row: dict[str, object]) -> str | None:
    """Find the text's column: by its name, or because question and answer stand rendered in it.

    `response` is one only where nothing stands beside it.
    """
    keys = {key.casefold(): key for key in row}
    if list(keys) == ["response"]:
        return keys["response"]
    plain = next((keys[name] for name in TEXT_COLUMNS if name in keys), None)
    return plain or next((key for key, text in row.items() if isinstance(text, str) and _RENDERED.match(text)), None)


COMPLETION = CompletionFormat(name="completion", needs="text")
