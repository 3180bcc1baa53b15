"""Where records stand, for millions of them."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field

from finetune_exe.domain.dataset import SplitName


@dataclass(slots=True, kw_only=True)
class Places:
    """The file and the line of every record, in few bytes."""

    split: SplitName
    lines: array[int] = field(default_factory=lambda: array("q"))
    """Line of each record; -1 where it has none."""
    firsts: list[int] = field(default_factory=list)
    """Number of the first record of each file."""
    names: list[str] = field(default_factory=list)
    """The files."""
    special: dict[int, str] = field(default_factory=dict)
    """Places that are more than a file and a line."""

    def __len__(self) -> int:
        return len(self.lines)

    def begin(self, file: str) -> None:
        """Begin a file: the records added from now on stand in it."""
        self.firsts.append(len(self.lines))
        self.names.append(file)

    def add(self, line: int | None) -> int:
        """Note the next record, and give its number."""
        self.lines.append(-1 if line is None else line)
        return len(self.lines) - 1

    def line(self, index: int) -> int | None:
        """Give the line of a record, from 1, or None where its file has no lines."""
        return None if self.lines[index] < 0 else self.lines[index]

    def place(self, index: int) -> str:
        """Say where a record is: file:line, or its number in its file."""
        if index in self.special:
            return self.special[index]
        file = bisect_right(self.firsts, index) - 1
        if self.lines[index] < 0:
            return f"{self.names[file]}, row {index - self.firsts[file] + 1}"
        return f"{self.names[file]}:{self.lines[index]}"
