"""OpenAI messages: role and content, the form most chat data has today."""

from __future__ import annotations

from finetune_exe.text.formats.turns import TurnFormat

CHATML = TurnFormat(
    name="chatml",
    needs='messages: [{"role", "content"}, ...]',
    list_key="messages",
    role_key="role",
    content_key="content",
    foreign_role_key="from",
    roles={"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"},
    usual_roles=frozenset({"system", "user", "assistant", "tool", "developer", "function"}),
)
