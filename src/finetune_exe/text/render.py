"""Turn conversations into text with the tokenizer's own chat template, in a sandbox."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from finetune_exe.errors import FineTuneError
from finetune_exe.text.conversation import Message
from finetune_exe.text.thinking import thinking_key
from finetune_exe.text.tool_calls import template_turns

if TYPE_CHECKING:
    from jinja2 import Template

    from finetune_exe.text.sandbox import GuardedEnvironment

PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ message['role'] | capitalize + ': ' + message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}{{ '\\n\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
"""For base models that have no template: roles in words, every answer closed by the end-of-text token."""


class TemplateRefusedError(Exception):
    """The template would not render this conversation; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTemplate:
    """A compiled chat template.

    Nothing in the template reaches the machine, and it can take neither long nor much: see `sandbox`.
    """

    source: str
    special_tokens: Mapping[str, str]
    """bos_token, eos_token and the like, as templates call them."""
    compiled: Template = field(repr=False)
    environment: GuardedEnvironment = field(repr=False)
    """The sandbox it runs in."""
    thinking_key: str | None
    """The key of a turn that it reads thinking from; None where it reads none."""
    names: Mapping[str, Any] = field(repr=False)
    """What the template may name beside the conversation: special tokens, and Jinja's own functions."""

    @property
    def digest(self) -> str:
        """Name the template's content."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:32]

    def render(
        self, messages: Sequence[Message], *, answer_next: bool, columns: Mapping[str, Any], thinking: bool = False
    ) -> str:
        """Render turns as the model will see them.

        Args:
            messages: The turns, oldest first.
            answer_next: End with the words that make the model answer (the "generation prompt").
            columns: Other columns of the row; `tools` among them is given to the template.
            thinking: The last answer is one that thinks first, or is to be: `enable_thinking`, as servers say it.

        Raises:
            TemplateRefusedError: The template raised, as many do on roles out of order, or ran too long.
        """
        turns = template_turns(messages)
        try:
            return self._write(turns, answer_next, columns, thinking)
        except TemplateRefusedError:
            as_they_are = [{"role": message.role, "content": message.content, **message.extra} for message in messages]
            if as_they_are == turns:
                raise
            return self._write(as_they_are, answer_next, columns, thinking)

    def _write(self, turns: list[dict[str, Any]], answer_next: bool, columns: Mapping[str, Any], thinking: bool) -> str:
        seen = {
            **self.names, "messages": turns, "add_generation_prompt": answer_next, "tools": columns.get("tools"),
            "enable_thinking": thinking,
        }  # fmt: skip
        environment = self.environment
        most_characters = environment.most_characters
        context = environment.context_class(environment, seen, None, self.compiled.blocks)
        pieces: list[str] = []
        size = 0
        environment.begin()
        try:
            for piece in self.compiled.root_render_func(context):
                size += len(piece)
                pieces.append(piece)
                if size > most_characters:
                    raise TemplateRefusedError("the template wrote too much")
        except environment.faults as fault:
            raise TemplateRefusedError(str(fault) or type(fault).__name__) from fault
        return "".join(pieces)


def compile_template(source: str, *, special_tokens: Mapping[str, str], where: str) -> ChatTemplate:
    """Compile a chat template.

    Args:
        source: Jinja text.
        special_tokens: What `bos_token`, `eos_token`, ... stand for inside it.
        where: File the template came from, for the message.

    Raises:
        FineTuneError: D06 where it is no valid template.
    """
    from jinja2 import TemplateSyntaxError

    from finetune_exe.text.sandbox import GuardedEnvironment

    try:
        environment = GuardedEnvironment()
        compiled = environment.from_string(source)
    except RecursionError as fault:
        what, why = "is nested too deeply", "it cannot be read, so there is no telling what the model will see"
        raise _unusable(what, where, why) from fault
    except TemplateSyntaxError as fault:
        why = "without it there is no telling what the model will see"
        raise _unusable(
            f"cannot be read: {fault.message}", f"{where}, line {fault.lineno} of the template", why
        ) from fault
    names = {**compiled.globals, **special_tokens}
    return ChatTemplate(
        source=source, special_tokens=dict(special_tokens), compiled=compiled, environment=environment, names=names,
        thinking_key=thinking_key(source),
    )  # fmt: skip


def _unusable(what: str, where: str, why: str) -> FineTuneError:
    return FineTuneError(
        "D06", what=f"the chat template {what}", where=where, why=why,
        fix="correct the template, or give another with --set data.chat_template=FILE.jinja",
    )  # fmt: skip
