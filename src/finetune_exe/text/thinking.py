"""What an answer thinks before it speaks: where rows keep it, and how chat templates are given it.

Rows hold it under a key of the turn, whose name is another with each maker, or within the answer between <think> and
</think>. Templates read one of these, or none. Servers ask a model to think by `enable_thinking`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from finetune_exe.text.conversation import Conversation, Message

THINKING_KEYS = ("reasoning_content", "thinking", "reasoning")
"""Source: chat templates of Qwen3 and GLM-4.5 (the first), gpt-oss (the second); OpenRouter's answers (the third)."""
OPENINGS = (
    "<think>", "<|channel|>analysis<|message|>", "<|channel>thought", "[THINK]", "<seed:think>", "<|START_THINKING|>"
)  # fmt: skip
"""What templates write before it. Source: those of Qwen3, gpt-oss, Gemma 4, Magistral, Seed-OSS, Command A."""
Place = Literal["within", "out"]
"""Where thinking goes that has no key: into the answer, or nowhere."""
_BEGIN, _END = re.compile(r"\s*<think>"), "</think>"
_LINES = re.compile(r"^[ \t]*(?:(?P<fence>```)|(?P<begin><think>)[ \t]*$|</think>[ \t]*$)", re.MULTILINE)
"""Lines that are a mark of thinking alone, and those at which code begins or ends."""
_OPENED = re.compile(rf"(?:{'|'.join(map(re.escape, OPENINGS))})\s*\Z")


def thinking_of(message: Message) -> str:
    """Give what an answer thinks, without white space around it; empty where it does not."""
    if message.role != "assistant":
        return ""
    for key in THINKING_KEYS if message.extra else ():
        value = message.extra.get(key)
        if isinstance(value, str) and value.strip():
            return value.strip()
    within = _within(message.content)
    return within.thought.strip() if within else ""


class _Within(NamedTuple):
    """An answer that begins with its thinking."""

    thought: str
    said: str
    """What stands behind it."""


def _within(text: str) -> _Within | None:
    """Part an answer at the end of the thinking that it begins with; None where it begins with none, or never ends it.

    A line that is </think> alone ends it, whatever marks stand within sentences before; without one the first does.
    """
    begin = _BEGIN.match(text)
    if begin is None:
        return None
    line, first = _closing_line(text, begin.end()), text.find(_END, begin.end())
    if line is None and first < 0:
        return None
    end, behind = line or (first, first + len(_END))
    return _Within(text[begin.end() : end], text[behind:])


def _closing_line(text: str, start: int) -> tuple[int, int] | None:
    """Find where a line that is </think> alone begins and ends, outside of code and of other thinking."""
    in_code = False
    for line in _LINES.finditer(text, start):
        if line["fence"]:
            in_code = not in_code
        elif not in_code:
            return None if line["begin"] else line.span()
    return None


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
        within = _within(message.content)
        if other is not None:
            extra[key] = extra.pop(other)
        elif within and within.thought.strip():
            content = within.said.lstrip("\n")
            return replace(message, content=content, extra={**extra, key: within.thought.strip("\n")})
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

    Thinking that the server opened has no beginning: it ends with a line that is </think> alone. Anywhere else the mark
    is a part of what is said, as where an answer explains it.

    >>> without_thinking("<think>two and two</think>\\n\\n4"), without_thinking("<think>hm"), without_thinking("4")
    ('4', '', '4')
    """
    if _BEGIN.match(text):
        within = _within(text)
        return within.said.lstrip() if within else ""
    end = _closing_line(text, 0)
    return text[end[1] :].lstrip() if end else text
