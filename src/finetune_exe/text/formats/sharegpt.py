"""ShareGPT: from and value, as exported conversations have it."""

from __future__ import annotations

from finetune_exe.text.formats.turns import TurnFormat

SHAREGPT = TurnFormat(
    name="sharegpt",
    needs='conversations: [{"from", "value"}, ...]',
    list_key="conversations",
    role_key="from",
    content_key="value",
    foreign_role_key="role",
    roles={"system": "system", "human": "user", "gpt": "assistant", "tool": "tool"},
    usual_roles=frozenset({
        "system", "human", "gpt", "user", "assistant", "chatgpt", "tool", "function_call", "observation",
        "function_response",
    }),
)  # fmt: skip
