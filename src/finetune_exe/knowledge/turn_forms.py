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
    thought: tuple[str, ...] = ()
    """What stands before what an answer thinks, where that is a turn of its own."""
    call: tuple[str, ...] = ()
    """What stands before the arguments of a call, where that is a turn of its own; the tool's name stands at {name}."""
    tool: tuple[str, ...] = ()
    ends: tuple[str, ...]
    """What may stand behind a turn."""
    every_turn_ends: bool = False
    """Whether one of `ends` stands behind every turn, so that who speaks next is free."""
    own: tuple[tuple[str, str], ...] = ()
    """What the template writes by itself before and behind what the system says; {} stands for the rest of a line."""
    tools: tuple[tuple[str, str], ...] = ()
    """What stands before and behind the definitions of tools, which are JSON."""
    calls: tuple[tuple[str, str], ...] = ()
    """What stands before and behind a call, or a list of such, at the end of an answer; white space may be between.
    Where the names of the tool and of the call stand at {name} and {id}, the arguments alone are between."""
    thoughts: tuple[tuple[str, str], ...] = ()
    """What stands before and behind what an answer thinks, at its beginning, in forms other than <think>."""
    results: tuple[tuple[str, str], ...] = ()
    """What stands before and behind a result within a turn."""
    json_results: bool = False
    """Whether a result that is a text is written in quotes, as JSON has it."""
    source: str
    date: date


@cache
def template_turns() -> tuple[TemplateTurns, ...]:
    """List the known forms; where two fit a text, the first is meant."""
    return read_rows("turn_forms.toml", key="form", kind=TemplateTurns)
