"""Question and answer that stand together in one column, as a text in two languages does under `translation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune_exe.text.conversation import Conversation, RowFault
from finetune_exe.text.formats.columns import ColumnFormat
from finetune_exe.text.formats.format import Evidence, Row

if TYPE_CHECKING:
    from finetune_exe.domain.task import FormatName


@dataclass(frozen=True, slots=True, kw_only=True)
class WithinColumn:
    """Rows that are read as if what stands within a column were columns of their own, named "outer.inner"."""

    inner: ColumnFormat
    paths: tuple[str, ...]

    @property
    def name(self) -> FormatName:
        """The name of the format that the rows then have."""
        return self.inner.name

    @property
    def needs(self) -> str:
        """The columns a row must have, for a person."""
        return self.inner.needs

    def detect(self, rows: Sequence[Row]) -> Evidence:
        """Count the rows that have both."""
        return self.inner.detect([self._opened(row) for row in rows])

    def read(self, row: Row) -> Conversation | RowFault:
        """Read question and answer."""
        return self.inner.read(self._opened(row))

    def write(self, conversation: Conversation) -> Row | RowFault:
        """Write a row; one that was read so is put together as it was."""
        row = self.inner.write(conversation)
        if isinstance(row, RowFault) or not isinstance(row, dict):
            return row
        outers = {path.partition(".")[0] for path in self.paths}
        closed: dict[str, Any] = {name: value for name, value in row.items() if name not in {*self.paths, *outers}}
        for path in self.paths:
            outer, _, key = path.partition(".")
            if path in row:
                closed.setdefault(outer, dict(row.get(outer, {})))[key] = row[path]
        return closed

    def _opened(self, row: Row) -> Row:
        if not isinstance(row, dict):
            return row
        opened = dict(row)
        for path in self.paths:
            outer, _, key = path.partition(".")
            held = opened.get(outer)
            if isinstance(held, dict) and key in held:
                opened[path] = held[key]
                rest = {name: value for name, value in held.items() if name != key}
                opened = {**opened, outer: rest} if rest else {n: v for n, v in opened.items() if n != outer}
        return opened


def texts_within(rows: Sequence[Row]) -> tuple[str, ...]:
    """Give the paths of two texts that make up one column of every row; none where no column is so."""
    first = rows[0] if rows and isinstance(rows[0], dict) else {}
    for outer, held in first.items():
        if isinstance(held, dict) and len(held) == 2 and not any("." in name for name in (outer, *held)):
            alike = (row.get(outer) if isinstance(row, dict) else None for row in rows)
            if all(isinstance(one, dict) and one.keys() == held.keys() and _are_texts(one) for one in alike):
                return tuple(f"{outer}.{key}" for key in held)
    return ()


def _are_texts(held: dict[str, Any]) -> bool:
    return all(isinstance(text, str) for text in held.values())
