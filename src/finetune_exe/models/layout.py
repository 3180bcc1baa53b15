"""How rows lie end to end in one: what packing, positions and attention must agree on."""

from __future__ import annotations

import itertools
from typing import NamedTuple


class Span(NamedTuple):
    """Places [start, stop) of the one row in which all lie."""

    start: int
    stop: int


class Row(NamedTuple):
    """A row among others."""

    length: int
    shared: int = 0
    """Tokens that it begins with as the row before it does, and that lie there alone; fewer than it has."""


class Layout(NamedTuple):
    """Rows end to end in one row of the model's, each without what it begins with as the row before it.

    That is computed once, for under causal attention nothing behind a token reaches it: at the same position behind the
    same tokens it has the same hidden states in every row.
    """

    rows: tuple[Row, ...]
    padding: int = 0
    """Positions behind the last row, a row of their own that no other sees."""

    @property
    def num_shared(self) -> int:
        """Tokens of rows that are not computed, because an earlier row has them."""
        return sum(row.shared for row in self.rows)

    @property
    def starts(self) -> tuple[int, ...]:
        """Where the own tokens of each row begin, those of the padding where there is some, and where all end."""
        return tuple(itertools.accumulate((row.length - row.shared for row in self.all_rows), initial=0))

    @property
    def positions(self) -> list[int]:
        """Position of each token in its row."""
        return [position for row in self.all_rows for position in range(row.shared, row.length)]

    @property
    def spans(self) -> list[tuple[Span, ...]]:
        """Where the tokens of each row lie in their order: its own last, before them those that earlier rows have."""
        found: list[tuple[Span, ...]] = []
        for row, own in zip(self.all_rows, itertools.pairwise(self.starts), strict=True):
            found.append((*(cut(found[-1], 0, row.shared) if row.shared else ()), Span(*own)))
        return found

    @property
    def all_rows(self) -> tuple[Row, ...]:
        """The rows, and the padding where there is some."""
        return (*self.rows, Row(self.padding)) if self.padding else self.rows


def cut(spans: tuple[Span, ...], first: int, last: int) -> tuple[Span, ...]:
    """Give where the tokens at positions [first, last) of a row lie."""
    found, position = [], 0
    for start, stop in spans:
        piece = Span(start + max(0, first - position), min(stop, start + last - position))
        if piece.start < piece.stop:
            found.append(piece)
        position += stop - start
    return tuple(found)
