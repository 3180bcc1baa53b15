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
_MIN_REPEATED, _BEGINNING = 40, 20
"""A question so long is not said again by chance; its first characters are compared first."""
_MIN_COPIED = 300
"""Half of it is a sentence or two, as summaries take over whole."""
_ASKS_COPY = re.compile(
    r"\b(?:repeat|copy|quote|extract|cite|correct|edit|proofread|fix|punctuat\w+|format|remove|delete|replace|same|verbatim"
    r"|error|grammar|code|program|function|bug)",
    re.IGNORECASE,
)
_ASKS_AGAIN = re.compile(
    r"\b(?:continu\w+|complet\w+|repeat\w*|extend\w*|finish\w*|add\b|rewrite|revise|correct\w*|edit|fix|fill|expand|improve"
    r"|append|rest of|carry on|proofread|punctuat\w+|format|annotat\w+|next (?:line|word|sentence)|story|poem)",
    re.IGNORECASE,
)
"""What asks for a text to go on, or to come back with changes."""
_MARKS = dict.fromkeys(map(ord, "\"'*_>#`\u00ab\u00bb\u2018\u2019\u201c\u201d\u201e\u300c\u300d\u300e\u300f"), " ")
"""What quotes a text or makes it bold."""
_ENDS = " \n\"'*_`.?!:\u2026\u00bb\u2019\u201d\u300d\u300f\u3002\uff1a\uff1f\uff01\u061f"
_NO_LETTER = re.compile(r"[\s.,:;!?'()-]+")
_NAMED = re.compile(r"\W{0,4}(?:Q|Question|User|Human|Prompt|Instruction|Query)\W{0,4}:\W{0,4}")
"""What names a question before it is said again."""
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


def _begins_with_prompt(row: RowView) -> str | None:
    """Find answers that say the whole question first, as programs give back that do not cut it off."""
    if row.layout in ("text", "classification"):
        return None
    prompt, answer = row.prompt, row.answer
    named = _NAMED.match(answer)
    answer = answer[named.end() :] if named is not None else answer
    if len(prompt) < (_MIN_REPEATED if named is None else _MIN_CHARACTERS) or len(answer) <= len(prompt):
        return None
    end = len(prompt.rstrip())
    if answer[:_BEGINNING] != prompt[:_BEGINNING] or answer[:end] != prompt[:end] or not answer[end:].strip():
        return None
    return None if _ASKS_AGAIN.search(prompt) is not None else shorten(answer)


def _is_copied(row: RowView) -> str | None:
    """Find long answers that are, word for word, most of what was asked about."""
    if row.layout in ("text", "classification"):
        return None
    answer, prompt = row.answer, row.prompt
    if len(answer) < _MIN_COPIED or not len(prompt) <= 2 * len(answer) <= 2 * len(prompt):
        return None
    if answer.strip() not in prompt or _ASKS_COPY.search(prompt) is not None:
        return None
    return shorten(answer)


def _is_echo(answer: str, prompt: str, row: RowView) -> bool:
    if not _MIN_WIDE <= len(answer) <= _TIMES * len(prompt) + _LEAD_IN:
        return False
    length = row.conversation.origin.get("prompt_length")
    if not isinstance(length, int):
        length = prompt.find("\n\n")
    asked = (prompt, prompt[:length]) if 0 < length < len(prompt) else (prompt,)
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


_QUESTION = "How was the harbour of the town built, and who paid for it?"

_TEXT = " ".join(f"In the year {year} the town dug a part of its harbour." for year in range(1900, 1910))

CHECKS = (
    RowCheck(
        code="prompt_copied",
        severity="warning",
        message="the answer is a long piece of the question, word for word",
        fix="write the answer, or drop the row",
        find=_is_copied,
        usual=0.3,
        example=asked(f"Sum this up in a sentence: {_TEXT}", _TEXT),
        counterexample=asked(f"Repeat this: {_TEXT}", _TEXT),
    ),
    RowCheck(
        code="prompt_repeated",
        severity="warning",
        message="the answer begins with the whole question, word for word",
        fix="cut the question off the answer: return_full_text=False in pipelines of transformers",
        find=_begins_with_prompt,
        usual=0.3,
        example=asked(_QUESTION, f"{_QUESTION}\nIt was dug by hand."),
        counterexample=asked(f"Continue: {_QUESTION}", f"Continue: {_QUESTION} It was dug by hand."),
    ),
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
