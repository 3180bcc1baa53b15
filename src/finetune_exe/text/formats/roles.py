"""The many names of the four roles."""

from __future__ import annotations

from finetune_exe.text.conversation import Role

ROLE_NAMES: dict[str, Role] = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user", "usr": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "ai": "assistant", "function_call": "assistant", "tool_call": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool", "function_response": "tool",
    "tool_response": "tool",
}  # fmt: skip


def role_of(name: object) -> Role | None:
    """Give the role that a name stands for, whatever its case; None for a name that stands for no role."""
    return ROLE_NAMES.get(name.strip().casefold()) if isinstance(name, str) else None
