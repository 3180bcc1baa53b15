"""How the templates of chat models write a conversation as one text."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache

from finetune_exe.knowledge.rows import read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateTurns:
    """What one family of templates writes around turns."""

    name: str
    title: str
    """Whose form it is, for a person."""
    begins: tuple[str, ...] = ()
    """What may stand before the first turn and says nothing."""
    system: tuple[str, ...] = ()
    user: tuple[str, ...]
    input: tuple[str, ...] = ()
    """What stands before a second part of a question."""
    assistant: tuple[str, ...]
    tool: tuple[str, ...] = ()
    ends: tuple[str, ...]
    """What may stand behind a turn."""
    every_turn_ends: bool = False
    """Whether one of `ends` stands behind every turn, so that who speaks next is free."""
    source: str
    date: date


@cache
def template_turns() -> tuple[TemplateTurns, ...]:
    """List the known forms; where two fit a text, the first is meant."""
    return read_rows("turn_forms.toml", key="form", kind=TemplateTurns)
