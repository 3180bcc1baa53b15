"""What a template writes around the turns, learned once for each shape of conversation and held against every row.

A skeleton is the template's rendering of turns whose contents are marks: fixed text, and which turn goes where. For a
real conversation of the same shape it only *proposes* where each turn stands. The proposal counts if fixed text and
contents put together are, character for character, what the template really rendered for that row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from finetune_exe.text.conversation import Conversation, Message
from finetune_exe.text.render import ChatTemplate, TemplateRefusedError

OPEN, CLOSE = "\ue00b\ue0f1", "\ue00d\ue0f3"
TRIMS: tuple[Callable[[str], str], ...] = (
    str, str.strip, str.lstrip, str.rstrip, lambda text: text.strip("\n"), lambda text: text.lstrip("\n")
)  # fmt: skip
"""What templates are known to do to a turn's white space."""
_MARK = re.compile(f"{OPEN}([0-9]+){CLOSE}")
_MAX_SHAPES = 1000
"""Orders of roles that are remembered; of each, a rendered text without what is said."""


class CharSpan(NamedTuple):
    """Characters [start, end) of a text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Skeleton:
    """Fixed text before, between and behind the turns, and which turn stands at each gap."""

    fixed: tuple[str, ...]
    turns: tuple[int, ...]
    leads: dict[int, int]
    """For an answer: how many fixed characters before it are no part of its prompt, so that the model writes them."""


class Skeletons:
    """Finds answers in rendered conversations.

    Args:
        template: Renders them.
    """

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._known: dict[tuple[str, ...], _Skeleton | None] = {}
        self._trims: dict[tuple[str, ...], Callable[[str], str]] = {}

    def find(self, conversation: Conversation, answers: Sequence[int], rendered: str) -> list[CharSpan] | None:
        """Say which characters of the rendered conversation each answer takes.

        Args:
            conversation: The row.
            answers: Turns to find.
            rendered: What the template really wrote for the whole conversation.

        Returns:
            A span for each answer, with what the model must write before it, such as a space; None where the shape
            has no skeleton or it does not fit this row.
        """
        messages = conversation.messages
        if conversation.extra.get("tools") is not None or any(message.extra for message in messages):
            return None
        shape = tuple(message.role for message in messages)
        skeleton = self._known[shape] if shape in self._known else self._learn(shape)
        if skeleton is None or any(skeleton.turns.count(answer) != 1 for answer in answers):
            return None
        for trim in chain((self._trims.get(shape, str),), TRIMS):
            contents = [trim(message.content) for message in messages]
            spans = _fit(skeleton, contents, rendered)
            if spans is not None:
                self._trims[shape] = trim
                found = [(spans[skeleton.turns.index(answer)], skeleton.leads.get(answer, 0)) for answer in answers]
                return [CharSpan(span.start - lead, span.end) for span, lead in found]
        return None

    def _learn(self, shape: tuple[str, ...]) -> _Skeleton | None:
        turns = tuple(
            Message(role=role, content=f"{OPEN}{index}{CLOSE}")  # type: ignore[arg-type]
            for index, role in enumerate(shape)
        )
        try:
            text = self._template.render(turns, answer_next=False, columns={})
        except TemplateRefusedError:
            text = ""
        parts = _MARK.split(text)
        leads = {index: self._lead(turns, index, text) for index, role in enumerate(shape) if role == "assistant"}
        skeleton = _Skeleton(tuple(parts[::2]), tuple(map(int, parts[1::2])), leads) if text else None
        if len(self._known) < _MAX_SHAPES:
            self._known[shape] = skeleton
        return skeleton

    def _lead(self, turns: tuple[Message, ...], index: int, text: str) -> int:
        """Count the characters between the end of an answer's prompt and the answer."""
        try:
            prompt = self._template.render(turns[:index], answer_next=True, columns={})
        except TemplateRefusedError:
            return 0
        start = text.find(turns[index].content)
        return start - len(prompt) if text.startswith(prompt) and start >= len(prompt) else 0


def _fit(skeleton: _Skeleton, contents: Sequence[str], rendered: str) -> list[CharSpan] | None:
    """Put the contents in their places; the result must be the rendered text."""
    pieces, spans, position = [skeleton.fixed[0]], [], len(skeleton.fixed[0])
    for turn, behind in zip(skeleton.turns, skeleton.fixed[1:], strict=True):
        content = contents[turn]
        spans.append(CharSpan(position, position + len(content)))
        pieces += (content, behind)
        position += len(content) + len(behind)
    return spans if position == len(rendered) and "".join(pieces) == rendered else None
