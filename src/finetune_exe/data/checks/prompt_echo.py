"""Answers that only repeat what was asked."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.row import RowView

_MIN_CHARACTERS = 15
"""Shorter ones are greetings and words to repeat."""
_MIN_WIDE, _WIDE = 7, "\u2e80"
"""The same for scripts of East Asia, whose first character this is."""
_TIMES, _LEAD_IN = 4, 40
"""How often an echo may say the question, and the characters of what may lead in to it."""
_MARKS = dict.fromkeys(map(ord, "\"'*_>#`\u00ab\u00bb\u2018\u2019\u201c\u201d\u201e\u300c\u300d\u300e\u300f"), " ")
"""What quotes a text or makes it bold."""
_ENDS = " \n\"'*_`.?!:\u2026\u00bb\u2019\u201d\u300d\u300f\u3002\uff1a\uff1f\uff01\u061f"
_NO_LETTER = re.compile(r"[\s.,:;!?'()-]+")
_LEAD = re.compile(
    r"[^\d\n.?!]{0,35}[:\uff1a]\s*|(?:sure|certainly|of course|okay|ok|absolutely|yes|no problem)[!.,]*\s*"
)
"""What leads in to a repeated question: a few words and a colon, or a word of consent."""


def _find(row: RowView) -> str | None:
    if row.layout in ("text", "classification"):
        return None
    prompt = None
    for message in row.messages:
        if message.role == "user":
            prompt = message.content
        elif message.role == "assistant" and prompt and _is_echo(message.content, prompt, row):
            return shorten(message.content)
    return None


def _is_echo(answer: str, prompt: str, row: RowView) -> bool:
    if not _MIN_WIDE <= len(answer) <= _TIMES * len(prompt) + _LEAD_IN:
        return False
    length = row.conversation.origin.get("prompt_length")
    asked = (prompt, prompt[:length]) if isinstance(length, int) and length < len(prompt) else (prompt,)
    return any(_only_repeats(answer, question) for question in asked if _ends_alike(answer, question))


def _ends_alike(answer: str, question: str) -> bool:
    ending = question.rstrip(_ENDS)[-4:].casefold()
    return ending in answer[-12:].casefold()


def _only_repeats(answer: str, question: str) -> bool:
    """Whether nothing but the question is said: bare, quoted, twice, or behind words that lead in to it."""
    said, asked_for = _plain(answer), _plain(question)
    if asked_for.isascii() and _letters(said) == _letters(asked_for):
        return len(asked_for) >= _MIN_CHARACTERS
    if len(asked_for) < (_MIN_CHARACTERS if asked_for < _WIDE else _MIN_WIDE) or asked_for not in said:
        return False
    before, *others = said.split(asked_for)
    if any(map(str.isalnum, "".join(others))):
        return False
    return not any(map(str.isalnum, before)) or _LEAD.fullmatch(before) is not None


def _letters(text: str) -> str:
    return "".join(_NO_LETTER.split(text)) if any(map(str.isalpha, text)) else text


def _plain(text: str) -> str:
    return " ".join(text.casefold().translate(_MARKS).split()).rstrip(_ENDS)


CHECKS = (
    RowCheck(
        code="prompt_echo",
        severity="error",
        message="the answer is the question once more",
        fix="write the answer, or drop the row",
        find=_find,
        example=asked("Write a recipe for barbeque sliders.", 'You asked: "Write a recipe for barbeque sliders."'),
        counterexample=asked("What is barbeque?", "What is barbeque? It is meat cooked slowly over smoke."),
    ),
)
