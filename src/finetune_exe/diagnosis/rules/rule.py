"""What a known failure is: how it shows, why it happens, and what mends it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A wording by which a failure shows in what a program prints."""

    pattern: str
    """Regular expression searched in one line, whatever its case."""
    strength: float
    """Share of logs with this wording in which this is the cause, as far as we know; 0 to 1."""
    unless: str | None = None
    """Excluding evidence: words in the same line with which it means something else."""
    within: str | None = None
    """Words that must stand in the traceback above; such a sign counts in exceptions only."""

    def shows_in(self, text: str, *, frames: tuple[str, ...] | None) -> bool:
        """Say whether the wording stands in `text`; `frames` is the traceback above an exception, None elsewhere."""
        if self.within is not None and (frames is None or not _found(self.within, "\n".join(frames))):
            return False
        return _found(self.pattern, text) and not (self.unless and _found(self.unless, text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tale:
    """Words by which people describe a failure; all of them must occur, in any order."""

    words: tuple[str, ...]
    """Regular expressions, in which `<60>` stands for at most 60 characters of the same sentence."""
    strength: float
    unless: str | None = None

    def told_in(self, text: str) -> re.Match[str] | None:
        """Give where the first of the words stands, or None where one is missing or excluded."""
        if self.unless and _found(self.unless, text):
            return None
        matches = [_compiled(word).search(text) for word in self.words]
        return matches[0] if all(matches) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One entry of the table of known failures."""

    label: str
    title: str
    cause: str
    fix: str
    signs: tuple[Sign, ...] = ()
    tales: tuple[Tale, ...] = ()
    consequence: bool = False
    """Whether it usually follows from another failure, and gives way where another is seen."""
    patch: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    """Settings of our plan that mend it."""
    scale: Mapping[str, float] = field(default_factory=dict)
    """Settings of our plan to be multiplied, where their present value is known."""


def _found(pattern: str, text: str) -> bool:
    return _compiled(pattern).search(text) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of the table; `<60>` in it stands for at most 60 characters of the same sentence."""
    return re.compile(re.sub(r"<(\d+)>", r"(?:[^.]|\.(?=\\w)){0,\1}", pattern), re.IGNORECASE | re.DOTALL)
