"""Whether served prompts are the trained prompts: token ids of our rendering beside those of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finetune_exe.domain.values import Check
from finetune_exe.evaluation.cache import NOTHING_KNOWN, ResultCache, digest_of
from finetune_exe.models.load import settle_libraries
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


def template_parity(
    data: PreparedFolder, tokenizer: ChatTokenizer, base: Path, *, known: ResultCache = NOTHING_KNOWN
) -> Check:
    """Render prompts by transformers, as servers do, and compare token ids; look for a doubled first token.

    Args:
        data: The prepared dataset.
        tokenizer: The one that rendered its rows.
        base: Folder of the base model.
        known: What transformers wrote before: it takes seconds to load, and would write the same again.
    """
    name = "served prompts are the trained prompts, token for token"
    if data.manifest.template_digest != tokenizer.template_digest:
        return Check(
            name=name, passed=False, detail="the chat template is not the one that the rows were trained with",
            fix="put the template of the training back, or prepare and train again",
        )  # fmt: skip
    rows = [from_json(row.conversation) for row in data.split("test").read_rows()[:ROWS]]
    chats = [row for row in rows if row.kind == "chat"]
    template = tokenizer.template
    if not chats or template is None:
        return Check(name=name, passed=None, detail="the rows are plain text")
    chats += [Conversation(kind="chat", messages=messages) for messages in CONSTRUCTED]
    asked = [(chat, prompt) for chat in chats if (prompt := encode_prompt(chat, tokenizer)) is not None]
    served = [settled(chat, template.thinking_key) for chat, _ in asked]
    theirs = known.values(
        "served", digest_of(version("transformers"), template.source, served),
        lambda: _by_transformers(base, template.source, served),
    )  # fmt: skip
    both = [(ours, prompt) for (_, ours), prompt in zip(asked, theirs, strict=True) if prompt is not None]
    equal = sum(ours == tuple(prompt) for ours, prompt in both)
    doubled = sum(tokenizer.doubles_bos(ours) for ours, _ in both)
    passed = equal == len(asked) and not doubled
    return Check(
        name=name,
        passed=passed,
        detail=f"{equal} of {len(asked)} prompts equal those of transformers"
        + (f"; {doubled} begin with two beginning-of-text tokens" if doubled else ""),
        fix=None if passed else "serve with the chat template of the run's folder, which writes the first token itself",
    )


def _by_transformers(base: Path, template: str, chats: Sequence[Conversation]) -> list[list[int] | None]:
    """Let transformers render what comes before the last answer of each; None of one that it cannot render."""
    from jinja2 import TemplateError

    settle_libraries()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    tokenizer.chat_template = template
    prompts: list[list[int] | None] = []
    for chat in chats:
        try:
            prompts.append(_prompt_of(tokenizer, chat))
        except (TemplateError, ValueError, TypeError):
            prompts.append(None)
    return prompts


def _prompt_of(tokenizer: Any, chat: Conversation) -> list[int]:
    last = max(index for index, message in enumerate(chat.messages) if message.role == "assistant")
    turns = template_turns(chat.messages[:last])
    return list(
        tokenizer.apply_chat_template(
            turns,
            tools=chat.extra.get("tools"),
            add_generation_prompt=True,
            enable_thinking=thinks(chat.messages[: last + 1]),
            return_dict=False,
        )
    )
