"""Answers that only repeat what was asked."""

from __future__ import annotations

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.row import RowView

_MIN_CHARACTERS = 15
"""Shorter ones are greetings and words to repeat."""


def _find(row: RowView) -> str | None:
    if row.layout == "text":
        return None
    prompt = None
    for message in row.messages:
        if message.role == "user":
            prompt = message.content
        elif message.role == "assistant" and prompt and _is_echo(message.content, prompt, row):
            return shorten(message.content)
    return None


def _is_echo(answer: str, prompt: str, row: RowView) -> bool:
    if (
        len(answer) < _MIN_CHARACTERS
        or answer[:8].casefold().strip() != prompt.lstrip()[: len(answer[:8].strip())].casefold()
    ):
        return False
    said, asked_for = _plain(answer), _plain(prompt)
    length = row.conversation.origin.get("prompt_length")
    instruction = _plain(prompt[:length]) if isinstance(length, int) else asked_for
    return said in (asked_for, instruction)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".?!:")


CHECKS = (
    RowCheck(
        code="prompt_echo",
        severity="error",
        message="the answer is the question once more",
        fix="write the answer, or drop the row",
        find=_find,
        example=asked("Write a recipe for barbeque sliders.", "Write a recipe for barbeque sliders."),
        counterexample=asked("What is barbeque?", "What is barbeque? It is meat cooked slowly over smoke."),
    ),
)
