"""Sources of what a page says, each written once and cited by its number."""

from __future__ import annotations

import re

from finetune_exe.report.boxes import NO_BREAK
from finetune_exe.report.page import Block, Heading, Words

_SEAM = re.compile(r"; (?![^(]*\))")
"""Between two sources; not within the brackets of one."""


class Sources:
    """The sources a page has cited so far."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def cite(self, sources: str) -> str:
        """Give the numbers of sources, as in [1, 3], after a space; what the user said is no source to look up."""
        if sources == "you":
            return ""
        numbers = {self._numbers.setdefault(source, len(self._numbers) + 1) for source in _SEAM.split(sources)}
        return f" [{', '.join(map(str, sorted(numbers)))}]"

    def listed(self) -> list[Block]:
        """List what was cited, by number."""
        if not self._numbers:
            return []
        return [
            Heading("SOURCES"),
            Words("; ".join(f"[{number}]{NO_BREAK}{source}" for source, number in self._numbers.items())),
        ]
