"""Rows in which something that should be said is not."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked, call, labelled, text, turns
from finetune_exe.data.checks.row import RowView
from finetune_exe.text.conversation import Message

BLANK = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
"""Characters that show nothing, though Python does not count them as white space."""


_THOUGHT = ("</think>", "</thinking>", "</thought>", "</reasoning>")
_NO_LABEL = frozenset({"nan", "null", "#n/a", "<na>", "undefined"})
"""What programs write for a value that is missing."""


_NO_VALUE = frozenset({
    "nan", "null", "nil", "undefined", "<na>", "nat", "[object object]", "#n/a", "#ref!", "#value!", "#name?",
    "#div/0!", "#null!", "#num!", "[deleted]", "[removed]", "(no response)", "[no response]", "no response",
    "[no answer]",
})  # fmt: skip
"""What programs write in place of a value that they do not have."""
_NO_QUESTION = _NO_VALUE | {"none", "n/a", "na", "-", "--", ".", "..", "...", "\u2026", "_", "tbd", "todo"}
_GOES_HERE = re.compile(
    r"\W*(?:(?:your|the|insert|add) )?(?:answer|response|output|text|content) (?:goes |comes )?here\W*", re.IGNORECASE
)
_NO_VALUE_CHARACTERS = max(map(len, _NO_QUESTION))
_ASKS_VALUE = re.compile(
    r"\b(?:null|nan|nil|undefined|values?|print\w*|returns?|output|code|javascript|python|sql|excel|pandas|formula|type)\b",
    re.IGNORECASE,
)
_SLOT = re.compile(
    r"(?:^|\n)[ \t#*]*(?:(?:Article|Text|Input|Context|Passage|Document|Paragraph|Snippet)[ \t*]*:[ \t*]*"
    r"|[A-Z][a-z]+[ \t*]*:[ \t*]*(?:None|[Nn]a[Nn]|[Nn]ull|N/A|undefined|\[object Object\]))\s*\Z"
)
"""The last line of a question: a name, and nothing or no value where the text that it names should be."""
_SLOT_CHARACTERS = 60
"""Characters at the end of a question that are looked at: the pattern begins anywhere, and a name is short."""


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


def _only_thinking(row: RowView) -> str | None:
    """Find answers that end with their thinking."""
    if row.layout != "text" and ">" in row.signs:
        for answer in row.answers:
            if answer.rstrip().endswith(_THOUGHT):
                return shorten(answer)
    return None


def _no_value(row: RowView) -> str | None:
    """Find what a program wrote for a value it did not have: as answer, as question, or as the text asked about."""
    for answer in row.answers if row.layout != "classification" else ():
        if len(answer) > 2 * _NO_VALUE_CHARACTERS:
            continue
        if answer.strip().casefold() in _NO_VALUE or _GOES_HERE.fullmatch(answer) is not None:
            return None if _ASKS_VALUE.search(row.prompt) is not None else shorten(answer)
    prompt = row.prompt
    if row.layout == "text":
        return None
    if len(prompt) <= _NO_VALUE_CHARACTERS and prompt.strip().casefold() in _NO_QUESTION:
        return shorten(prompt)
    if (
        ":" in prompt[-_NO_VALUE_CHARACTERS - 2 :]
        and (slot := _SLOT.search(prompt, max(0, len(prompt) - _SLOT_CHARACTERS))) is not None
    ):
        return shorten(prompt, slot.start()) if slot.start() else None
    return None


def _empty_prompt(row: RowView) -> str | None:
    if row.layout in ("text", "classification"):
        return None
    for message in row.messages:
        if message.role == "user" and is_blank(message.content) and not message.extra:
            return shorten(row.answer)
    origin = row.conversation.origin
    if origin.get("prompt_length") == 0 and "input" in origin.get("columns", ()):
        return shorten(row.prompt)
    return None


CHECKS = (
    RowCheck(
        code="empty_assistant",
        severity="error",
        message="an assistant turn is empty",
        fix="write the answer, or drop the row",
        find=_empty_assistant,
        layouts=frozenset({"turns"}),
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
        layouts=frozenset({"columns", "preference"}),
        example=asked("Name a fruit.", ""),
        counterexample=asked("Name a fruit.", "Fig"),
    ),
    RowCheck(
        code="whitespace_output",
        severity="error",
        message="the answer is nothing but white space",
        fix="write the answer, or drop the row",
        find=_whitespace_output,
        layouts=frozenset({"columns", "preference"}),
        example=asked("Name a fruit.", " \n\t"),
        counterexample=asked("Name a fruit.", " Fig"),
    ),
    RowCheck(
        code="only_thinking",
        severity="error",
        message="the answer ends with its thinking: nothing is answered",
        fix="write the answer behind the thinking, or drop the row",
        find=_only_thinking,
        example=asked("Name a fruit.", "<think>\nThey want a fruit.\n</think>\n"),
        counterexample=asked("Name a fruit.", "<think>\nThey want a fruit.\n</think>\nFig"),
    ),
    RowCheck(
        code="missing_value",
        severity="warning",
        message="a program wrote that it had no value where a text should be, or the text asked about is not there",
        fix="take the text from its source again, or drop the row",
        find=_no_value,
        usual=0.3,
        example=asked("Name a fruit.", "NaN"),
        counterexample=asked("What does Number('fig') return in JavaScript?", "NaN"),
    ),
    RowCheck(
        code="empty_text",
        severity="error",
        message="the text is empty",
        fix="drop the row",
        find=_empty_text,
        layouts=frozenset({"text", "classification"}),
        example=text("\n"),
        counterexample=text("."),
    ),
    RowCheck(
        code="empty_label",
        severity="error",
        message="the label is empty",
        fix="write the label, or drop the row",
        find=_empty_label,
        layouts=frozenset({"classification"}),
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
