"""Whether served prompts are the trained prompts: token ids of our rendering beside those of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetune_exe.domain.values import Check
from finetune_exe.prepared.store import PreparedFolder
from finetune_exe.text.conversation import Conversation, Message
from finetune_exe.text.encode import encode_prompt
from finetune_exe.text.formats.stored import from_json
from finetune_exe.text.thinking import settled, thinks
from finetune_exe.text.tokenizer import ChatTokenizer
from finetune_exe.text.tool_calls import template_turns

ROWS = 50
_ASK, _SAY = Message(role="user", content="How are you?"), Message(role="assistant", content="Well.")
CONSTRUCTED = (
    (_ASK, _SAY),
    (Message(role="system", content="Be brief."), _ASK, _SAY),
    (Message(role="system", content=""), _ASK, _SAY),
    (_ASK, _SAY, Message(role="user", content=" And\nnow? "), _SAY),
    (Message(role="user", content="caf\u00e9 \u4f60\u597d"), _SAY),
)
"""With and without a system turn, an empty one, several turns, and characters of many bytes."""


def template_parity(data: PreparedFolder, tokenizer: ChatTokenizer, base: Path) -> Check:
    """Render prompts by transformers, as servers do, and compare token ids; look for a doubled first token."""
    from jinja2 import TemplateError
    from transformers import AutoTokenizer

    name = "served prompts are the trained prompts, token for token"
    if data.manifest.template_digest != tokenizer.template_digest:
        return Check(
            name=name, passed=False, detail="the chat template is not the one that the rows were trained with",
            fix="put the template of the training back, or prepare and train again",
        )  # fmt: skip
    rows = [from_json(row.conversation) for row in data.split("test").read_rows()[:ROWS]]
    chats = [row for row in rows if row.kind == "chat"]
    if not chats or tokenizer.template is None:
        return Check(name=name, passed=None, detail="the rows are plain text")
    theirs = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    theirs.chat_template = tokenizer.template.source
    equal = doubled = total = 0
    for chat in (*chats, *(Conversation(kind="chat", messages=messages) for messages in CONSTRUCTED)):
        ours = encode_prompt(chat, tokenizer)
        if ours is None:
            continue
        total += 1
        try:
            equal += ours == _prompt_of(theirs, settled(chat, tokenizer.template.thinking_key))
        except (TemplateError, ValueError, TypeError):
            continue
        doubled += tokenizer.doubles_bos(ours)
    passed = equal == total and not doubled
    return Check(
        name=name,
        passed=passed,
        detail=f"{equal} of {total} prompts equal those of transformers"
        + (f"; {doubled} begin with two beginning-of-text tokens" if doubled else ""),
        fix=None if passed else "serve with the chat template of the run's folder, which writes the first token itself",
    )


def _prompt_of(theirs: Any, chat: Conversation) -> tuple[int, ...]:
    last = max(index for index, message in enumerate(chat.messages) if message.role == "assistant")
    turns = template_turns(chat.messages[:last])
    return tuple(
        theirs.apply_chat_template(
            turns,
            tools=chat.extra.get("tools"),
            add_generation_prompt=True,
            enable_thinking=thinks(chat.messages[: last + 1]),
            return_dict=False,
        )
    )
