"""What an answer thinks before it speaks: where rows keep it, and how chat templates are given it.

Rows hold it under a key of the turn, whose name is another with each maker, or within the answer between <think> and
</think>. Templates read one of these, or none. Servers ask a model to think by `enable_thinking`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from finetune_exe.text.conversation import Conversation, Message

THINKING_KEYS = ("reasoning_content", "thinking", "reasoning")
"""Source: chat templates of Qwen3 and GLM-4.5 (the first), gpt-oss (the second); OpenRouter's answers (the third)."""
OPENINGS = (
    "<think>", "<|channel|>analysis<|message|>", "<|channel>thought", "[THINK]", "<seed:think>", "<|START_THINKING|>"
)  # fmt: skip
"""What templates write before it. Source: those of Qwen3, gpt-oss, Gemma 4, Magistral, Seed-OSS, Command A."""
Place = Literal["within", "out"]
"""Where thinking goes that has no key: into the answer, or nowhere."""
_WITHIN = re.compile(r"\s*<think>(.*?)</think>", re.DOTALL)
_OPENED = re.compile(rf"(?:{'|'.join(map(re.escape, OPENINGS))})\s*\Z")


def thinking_of(message: Message) -> str:
    """Give what an answer thinks, without white space around it; empty where it does not."""
    if message.role != "assistant":
        return ""
    for key in THINKING_KEYS if message.extra else ():
        value = message.extra.get(key)
        if isinstance(value, str) and value.strip():
            return value.strip()
    within = _WITHIN.match(message.content)
    return within[1].strip() if within else ""


def thinks(messages: Sequence[Message]) -> bool:
    """Say whether the last answer is one that thinks, so that it is asked for with `enable_thinking`."""
    return any(thinking_of(message) for message in [m for m in messages if m.role == "assistant"][-1:])


def thinking_key(template: str) -> str | None:
    """Find the key of a turn that a template reads thinking from; None where it reads none."""
    return next((key for key in THINKING_KEYS if re.search(rf"\.{key}\b|[\"']{key}[\"']", template)), None)


def settled(conversation: Conversation, key: str | None) -> Conversation:
    """Put thinking where a template reads it, and take empty keys away; without a key it stays where it is."""
    messages = tuple(_settled(message, key) for message in conversation.messages)
    return conversation if messages == conversation.messages else replace(conversation, messages=messages)


def _settled(message: Message, key: str | None) -> Message:
    if not message.extra and (key is None or message.role != "assistant"):
        return message
    extra = {name: value for name, value in message.extra.items() if name not in THINKING_KEYS or _says(value)}
    if message.role == "assistant" and key is not None and not isinstance(extra.get(key), str):
        other = next((name for name in THINKING_KEYS if isinstance(extra.get(name), str)), None)
        within = _WITHIN.match(message.content)
        if other is not None:
            extra[key] = extra.pop(other)
        elif within and within[1].strip():
            content = message.content[within.end() :].lstrip("\n")
            return replace(message, content=content, extra={**extra, key: within[1].strip("\n")})
    return message if extra == message.extra else replace(message, extra=extra)


def moved(conversation: Conversation, place: Place) -> Conversation:
    """Write what answers think into them, between <think> and </think>, or leave it out."""
    messages, rejected = (tuple(_moved(message, place) for message in turns)
                          for turns in (conversation.messages, conversation.rejected))  # fmt: skip
    return replace(conversation, messages=messages, rejected=rejected)


def _moved(message: Message, place: Place) -> Message:
    thought, said = thinking_of(message), without_thinking(message.content)
    content = message.content if not thought else said if place == "out" else f"<think>\n{thought}\n</think>\n\n{said}"
    return replace(
        message,
        content=content,
        extra={name: value for name, value in message.extra.items() if name not in THINKING_KEYS},
    )


def _says(value: object) -> bool:
    return bool(value.strip()) if isinstance(value, str) else value is not None


def opening_before(text: str) -> int | None:
    """Find where the opening of thinking begins that a text ends with; None where it ends with none."""
    found = _OPENED.search(text)
    return found.start() if found else None


def without_thinking(text: str) -> str:
    """Give what a written answer says behind its thinking; nothing where it never ends.

    >>> without_thinking("<think>two and two</think>\\n\\n4"), without_thinking("<think>hm"), without_thinking("4")
    ('4', '', '4')
    """
    _, end, said = text.rpartition("</think>")
    if end:
        return said.lstrip()
    return "" if text.lstrip().startswith("<think>") else text
