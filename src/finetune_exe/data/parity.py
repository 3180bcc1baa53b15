"""Render the same conversations with other programs: what is trained must be what other programs will serve."""

from __future__ import annotations

import importlib.util
import json
import re
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from finetune_exe.domain.certificate import EngineParity
from finetune_exe.text.conversation import Conversation
from finetune_exe.text.thinking import settled, thinks
from finetune_exe.text.tokenizer import ChatTokenizer
from finetune_exe.text.tool_calls import template_turns


class _Asked(NamedTuple):
    """Turns that are to be rendered."""

    chat: Conversation
    answer_next: bool
    thinking: bool


Render = Callable[[_Asked], str]
"""Renders a conversation; the flag asks for the words that make the model answer."""
FUEL = 5_000_000
"""Steps that minijinja may take over one rendering."""
_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")


def compare_engines(conversations: Sequence[Conversation], tokenizer: ChatTokenizer) -> tuple[EngineParity, ...]:
    """Compare text and token ids of conversations, and of the prompt of each one's last answer, with other engines.

    Args:
        conversations: Chats of the dataset, as they were trained on.
        tokenizer: Ours, with the template.
    """
    chats = [conversation for conversation in conversations if conversation.kind == "chat"]
    if tokenizer.template is None or not chats:
        return ()
    found = []
    if importlib.util.find_spec("minijinja") is None:
        found.append(EngineParity(engine="minijinja", num_conversations=0, num_equal=0, note="not installed"))
    else:
        found.append(_compare(f"minijinja {version('minijinja')}", _minijinja(tokenizer), chats, tokenizer))
    if importlib.util.find_spec("llama_cpp") is not None:
        found.append(_compare(f"llama-cpp-python {version('llama-cpp-python')}", _llama(tokenizer), chats, tokenizer))
    return tuple(found)


def _compare(engine: str, render: Render, chats: Sequence[Conversation], tokenizer: ChatTokenizer) -> EngineParity:
    equal, note = 0, ""
    for chat in chats:
        try:
            same = all(_same(ours, render(asked), tokenizer) for asked, ours in _renderings(chat, tokenizer))
        except Exception as fault:  # noqa: BLE001 - whatever another program runs into is its finding
            same, note = False, note or f"{type(fault).__name__}: {' '.join(str(fault).split())[:200]}"
        equal += same
    return EngineParity(engine=engine, num_conversations=len(chats), num_equal=equal, note=note)


def _renderings(chat: Conversation, tokenizer: ChatTokenizer) -> list[tuple[_Asked, str]]:
    """Render a chat whole, and up to its last answer as the model is asked for it."""
    template = tokenizer.template
    assert template is not None
    chat = settled(chat, template.thinking_key)
    last = max(
        (i for i, message in enumerate(chat.messages) if message.role == "assistant" and message.learn), default=0
    )
    before = Conversation(kind="chat", messages=chat.messages[:last], extra=chat.extra)
    both = (
        _Asked(chat, answer_next=False, thinking=thinks(chat.messages)),
        _Asked(before, answer_next=True, thinking=thinks(chat.messages[: last + 1])),
    )
    return [
        (asked, template.render(asked.chat.messages, answer_next=asked.answer_next, columns=chat.extra,
                                thinking=asked.thinking)) for asked in both
    ]  # fmt: skip


def _same(ours: str, theirs: str, tokenizer: ChatTokenizer) -> bool:
    return ours == theirs and tokenizer.encode(ours).ids == tokenizer.encode(theirs).ids


def _minijinja(tokenizer: ChatTokenizer) -> Render:
    import minijinja

    template = tokenizer.template
    assert template is not None
    environment: Any = minijinja.Environment()
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.fuel = FUEL
    environment.add_filter("tojson", _to_json)
    environment.add_function("raise_exception", _refuse)
    environment.add_function("strftime_now", time.strftime)
    environment.add_template("chat", _GENERATION.sub("", template.source))

    def render(asked: _Asked) -> str:
        return str(environment.render_template(
            "chat", messages=template_turns(asked.chat.messages), add_generation_prompt=asked.answer_next,
            tools=asked.chat.extra.get("tools"), enable_thinking=asked.thinking, **template.special_tokens,
        ))  # fmt: skip

    return render


def _llama(tokenizer: ChatTokenizer) -> Render:
    """Render as llama.cpp's binding does for a chat, which knows the turns, the tools and two special tokens only."""
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    template = tokenizer.template
    assert template is not None
    source, names = _GENERATION.sub("", template.source), template.special_tokens
    formatters = [
        Jinja2ChatFormatter(
            source, names.get("eos_token", ""), names.get("bos_token", ""), add_generation_prompt=answer_next
        )
        for answer_next in (False, True)
    ]

    def render(asked: _Asked) -> str:
        turns, tools = template_turns(asked.chat.messages), asked.chat.extra.get("tools")
        return str(formatters[asked.answer_next](messages=turns, tools=tools).prompt)

    return render


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    raise ValueError(message)
