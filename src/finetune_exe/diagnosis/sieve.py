"""Pass over the lines of a log that say nothing new, so that a gigabyte is read in seconds.

Most lines of a long log are the same line with other numbers. A line's shape is what is left without digits, spaces
and the blocks of progress bars. Each shape is looked at once; then its kind says what becomes of the lines like it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

_MOST_SHAPES = 50_000
_VARIES = b"0123456789 \t#.,:+-<>=\xe2" + bytes(range(0x94, 0x97)) + bytes(range(0x88, 0x90)) + b"\xb8\xb9\xba\xbb"


class Kind(Enum):
    """What becomes of later lines of the same shape."""

    REPEATED = 0
    """Nothing new can be in them."""
    METRIC = 1
    """Every so-manieth is read, for numbers change."""
    KEPT = 2
    """All are read."""


@dataclass(slots=True)
class Sieve:
    """Chooses the lines worth reading; told after each one what kind it was."""

    everything: bool = True
    """Whether all lines are let through at present: at the start, and inside a traceback."""
    stride: int = 1
    """Of how many lines of metrics one is read."""
    _kinds: dict[bytes, Kind] = field(default_factory=dict)
    _shape: bytes = b""
    _turn: int = 0

    def sift(self, text: bytes, number: int) -> Iterator[tuple[int, bytes]]:
        """Yield what is worth reading of the lines of `text`, each piece with its number; the first has `number`."""
        repeated, metric = Kind.REPEATED, Kind.METRIC
        shapes = text.translate(None, _VARIES).split(b"\n")
        everything, kind_of, turn = self.everything, self._kinds.get, self._turn
        for offset, (raw, shape) in enumerate(zip(text.split(b"\n"), shapes, strict=True)):
            kind = kind_of(shape)
            if not everything:
                if kind is repeated or not shape:
                    continue
                if kind is metric:
                    turn += 1
                    if turn % self.stride:
                        continue
            self._turn = turn
            if b"\r" in shape:
                yield from self._pieces(raw, shape, number + offset, due=kind is metric)
            else:
                self._shape = shape
                yield number + offset, raw
            everything, turn = self.everything, self._turn
        self._turn = turn

    def settle(self, kind: Kind) -> None:
        """Remember what the line given last was."""
        if len(self._kinds) >= _MOST_SHAPES:
            self._kinds.clear()
        self._kinds[self._shape] = kind

    def _wanted(self, kind: Kind | None, shape: bytes) -> bool:
        if kind is Kind.METRIC:
            self._turn += 1
            return self._turn % self.stride == 0 or self.everything
        return self.everything or (kind is not Kind.REPEATED and bool(shape))

    def _pieces(self, raw: bytes, whole: bytes, number: int, *, due: bool) -> Iterator[tuple[int, bytes]]:
        """Yield the pieces of a line that carriage returns overwrote; lines like it are of their most useful kind."""
        kinds: set[Kind | None] = set()
        for piece in raw.split(b"\r"):
            shape = piece.translate(None, _VARIES)
            kind = self._kinds.get(shape)
            if (due and kind is Kind.METRIC) or self._wanted(kind, shape):
                self._shape = shape
                yield number, piece
            if shape:
                kinds.add(self._kinds.get(shape))
        if not kinds & {None, Kind.KEPT}:
            self._shape = whole
            self.settle(Kind.METRIC if Kind.METRIC in kinds else Kind.REPEATED)
