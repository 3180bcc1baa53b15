"""Rows in which something that should be said is not."""

from __future__ import annotations

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked, call, labelled, text, turns
from finetune_exe.data.checks.row import RowView
from finetune_exe.text.conversation import Message

BLANK = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
"""Characters that show nothing, though Python does not count them as white space."""


_NO_LABEL = frozenset({"nan", "null", "#n/a", "<na>", "undefined"})
"""What programs write for a value that is missing."""


def is_blank(content: str) -> bool:
    """Whether a text shows nothing."""
    return not content.strip() or not content.strip(BLANK).strip()


def _empty_assistant(row: RowView) -> str | None:
    if row.layout != "turns":
        return None
    for message in row.messages:
        if message.role == "assistant" and not message.extra and message.learn and is_blank(message.content):
            return ""
    return None


def _empty_output(row: RowView) -> str | None:
    if row.layout in ("columns", "preference") and row.answers and not row.answer and not row.messages[-1].extra:
        return shorten(row.prompt)
    return None


def _whitespace_output(row: RowView) -> str | None:
    if row.layout in ("columns", "preference") and row.answer and is_blank(row.answer):
        return repr(row.answer[:20])
    return None


def _empty_text(row: RowView) -> str | None:
    if row.layout == "text":
        return "" if is_blank(row.text) else None
    return f"label {row.answer[:40]}" if row.layout == "classification" and is_blank(row.prompt) else None


def _empty_label(row: RowView) -> str | None:
    if row.layout != "classification":
        return None
    return shorten(row.prompt) if is_blank(row.answer) or row.answer.strip().casefold() in _NO_LABEL else None


def _empty_prompt(row: RowView) -> str | None:
    if row.layout in ("text", "classification"):
        return None
    for message in row.messages:
        if message.role == "user" and is_blank(message.content) and not message.extra:
            return shorten(row.answer)
    return None


CHECKS = (
    RowCheck(
        code="empty_assistant",
        severity="error",
        message="an assistant turn is empty",
        fix="write the answer, or drop the row",
        find=_empty_assistant,
        example=turns(("user", "Hello"), ("assistant", " \n")),
        counterexample=turns(
            ("user", "Weather?"), call("{}"), Message(role="tool", content="4 C"), ("assistant", "Cold.")
        ),
    ),
    RowCheck(
        code="empty_output",
        severity="error",
        message="the answer is empty",
        fix="write the answer, or drop the row",
        find=_empty_output,
        example=asked("Name a fruit.", ""),
        counterexample=asked("Name a fruit.", "Fig"),
    ),
    RowCheck(
        code="whitespace_output",
        severity="error",
        message="the answer is nothing but white space",
        fix="write the answer, or drop the row",
        find=_whitespace_output,
        example=asked("Name a fruit.", " \n\t"),
        counterexample=asked("Name a fruit.", " Fig"),
    ),
    RowCheck(
        code="empty_text",
        severity="error",
        message="the text is empty",
        fix="drop the row",
        find=_empty_text,
        example=text("\n"),
        counterexample=text("."),
    ),
    RowCheck(
        code="empty_label",
        severity="error",
        message="the label is empty",
        fix="write the label, or drop the row",
        find=_empty_label,
        example=labelled("My card is lost.", ""),
        counterexample=labelled("My card is lost.", "none"),
    ),
    RowCheck(
        code="empty_prompt",
        severity="error",
        message="the question is empty, so the answer belongs to nothing",
        fix="write the question, or drop the row",
        find=_empty_prompt,
        usual=0.5,
        example=asked(" ", "Overnight oats are quick."),
        counterexample=asked("?", "What do you mean?"),
    ),
)
