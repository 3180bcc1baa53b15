"""Turn conversations into text with the tokenizer's own chat template, in a sandbox."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from finetune_exe.errors import FineTuneError
from finetune_exe.text.conversation import Message

if TYPE_CHECKING:
    from jinja2 import Template

MAX_SECONDS = 2.0
MAX_CHARACTERS = 20_000_000

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

    Nothing in the template reaches the machine: it runs in Jinja's immutable sandbox, and rendering stops
    after `MAX_SECONDS` or `MAX_CHARACTERS`.
    """

    source: str
    special_tokens: Mapping[str, str]
    """bos_token, eos_token and the like, as templates call them."""
    compiled: Template = field(repr=False)
    names: Mapping[str, Any] = field(repr=False)
    """What the template may name beside the conversation: special tokens, and Jinja's own functions."""

    @property
    def digest(self) -> str:
        """Name the template's content."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:32]

    def render(self, messages: Sequence[Message], *, answer_next: bool, columns: Mapping[str, Any]) -> str:
        """Render turns as the model will see them.

        Args:
            messages: The turns, oldest first.
            answer_next: End with the words that make the model answer (the "generation prompt").
            columns: Other columns of the row; `tools` among them is given to the template.

        Raises:
            TemplateRefusedError: The template raised, as many do on roles out of order, or ran too long.
        """
        from jinja2 import TemplateError
        from jinja2.runtime import Context

        turns = [{"role": message.role, "content": message.content, **message.extra} for message in messages]
        pieces: list[str] = []
        size = 0
        deadline = time.monotonic() + MAX_SECONDS
        seen = {
            **self.names, "messages": turns, "add_generation_prompt": answer_next, "tools": columns.get("tools"),
            "enable_thinking": False,
        }  # fmt: skip
        context = Context(self.compiled.environment, seen, None, self.compiled.blocks)
        try:
            for piece in self.compiled.root_render_func(context):
                size += len(piece)
                if size > MAX_CHARACTERS or time.monotonic() > deadline:
                    raise TemplateRefusedError("the template ran too long or wrote too much")
                pieces.append(piece)
        except (TemplateError, TypeError, ValueError, KeyError, OverflowError) as fault:
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

    try:
        compiled = _environment().from_string(source)
    except TemplateSyntaxError as fault:
        raise FineTuneError(
            "D06",
            what=f"the chat template cannot be read: {fault.message}",
            where=f"{where}, line {fault.lineno} of the template",
            why="without it there is no telling what the model will see",
            fix="correct the template, or give another with --set data.chat_template=FILE.jinja",
        ) from fault
    names = {**compiled.globals, **special_tokens}
    return ChatTemplate(source=source, special_tokens=dict(special_tokens), compiled=compiled, names=names)


def _environment() -> Any:
    """Build the sandbox with what chat templates expect: loop controls, tojson, raise_exception, a generation block."""
    import json

    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class GenerationBlock(Extension):
        """Let `{% generation %}...{% endgeneration %}` render as its body."""

        tags = {"generation"}  # noqa: RUF012 - Jinja's interface

        def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def to_json(value: Any, indent: int | None = None, **_: Any) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = time.strftime
    return environment
