"""The one form in which rows are held, whatever layout they came in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn."""

    role: Role
    content: str
    learn: bool = True
    """For assistant turns: whether the model learns from this one (a loss weight of 0 says no)."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Other keys of the source (tool_calls, name, ...): given to the template, and written back as they were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One row: turns, or one text without turns (a single message of role "assistant" and kind "text")."""

    kind: Literal["chat", "text"]
    messages: tuple[Message, ...]
    extra: dict[str, Any] = field(default_factory=dict)
    """Columns of the source beside the conversation (id, group, tools, ...), written back as they were."""
    origin: dict[str, Any] = field(default_factory=dict)
    """What the format needs to write the very same row again, and nothing else reads."""
    rejected: tuple[Message, ...] = ()
    """For a pair of a better and a worse answer: the turns of the worse one, behind the turns both share."""
    label: bool | None = None
    """For a single answer that was judged: whether it is a good one."""
    notes: tuple[str, ...] = ()
    """What is odd about the row though it can be read: codes such as `role_name_variant`, each once."""

    @property
    def num_prompt_turns(self) -> int:
        """Count the turns up to the last that a user says; what stands behind them is the last answer."""
        asked = (number for number, message in enumerate(self.messages, start=1) if message.role == "user")
        return max(asked, default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFault:
    """Why a row cannot be used: a stable code (snake_case, as in `Drop.code`), what is wrong, and the fix."""

    code: str
    message: str
    fix: str
