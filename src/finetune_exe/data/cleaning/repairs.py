"""Repairs of single rows: each undoes one kind of fault and leaves other rows as they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from finetune_exe.data.checks import ROW_CHECKS
from finetune_exe.data.checks.characters import without_control, without_invisible
from finetune_exe.data.checks.html_residue import without_entities
from finetune_exe.data.checks.mojibake import undo_mojibake
from finetune_exe.data.checks.row import RowView
from finetune_exe.data.rows import Mended, Repair
from finetune_exe.domain.plan import FixCode
from finetune_exe.text.conversation import Conversation, Message

_LINE_END = re.compile(r"\r\n?")
_BLANK_LINES_BEFORE = re.compile(r"\A(?:[^\S\n]*\n)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """One kind of repair."""

    code: FixCode
    """Where it is the code of a check, only rows are repaired that the check finds."""
    message: str
    """What was done, said of several rows."""
    repair: Callable[[str], str]
    """Gives the text of a turn without the fault."""


def _line_ends(text: str) -> str:
    return _LINE_END.sub("\n", text) if "\r" in text else text


def _without_surrounding_space(text: str) -> str:
    """Cut what surrounds a text; the first of several lines keeps its indentation, which belongs to the others'."""
    shorter = _BLANK_LINES_BEFORE.sub("", text.rstrip())
    return shorter if "\n" in shorter else shorter.lstrip()


FIXES: tuple[Fix, ...] = (
    Fix(code="line_ends", message="CR LF and CR were written as LF", repair=_line_ends),
    Fix(code="mojibake", message="text was read as UTF-8 again", repair=undo_mojibake),
    Fix(code="html_residue", message="entities were written as what they stand for", repair=without_entities),
    Fix(code="control_characters", message="control characters were taken out", repair=without_control),
    Fix(
        code="invisible_characters",
        message="invisible characters were taken out, and letters of another script written in that of their word",
        repair=without_invisible,
    ),
    Fix(
        code="surrounding_space",
        message="white space before and after a turn was cut off",
        repair=_without_surrounding_space,
    ),
)
"""In the order in which they are made, for one can bring to light what the next is for."""
FIX_MESSAGES: dict[str, str] = {fix.code: fix.message for fix in FIXES}
_CHECKS = {check.code: check for check in ROW_CHECKS}


def mend(conversation: Conversation, fixes: Sequence[Fix]) -> Mended:
    """Repair a row.

    Args:
        conversation: The row.
        fixes: What to repair, in order.

    Returns:
        The row, and the repairs that changed it.
    """
    repairs = []
    for fix in fixes:
        mended = _apply(conversation, fix.repair)
        check = _CHECKS.get(fix.code)
        if mended is conversation or (check is not None and check.find(RowView(conversation)) is None):
            continue
        repairs.append(Repair(code=fix.code, before=conversation))
        conversation = mended
    return Mended(conversation, tuple(repairs))


def _apply(conversation: Conversation, repair: Callable[[str], str]) -> Conversation:
    """Repair the text of every turn; a row that needs it nowhere is given back itself."""
    messages = tuple(_repaired(message, repair) for message in conversation.messages)
    rejected = tuple(_repaired(message, repair) for message in conversation.rejected)
    pairs = zip((*messages, *rejected), (*conversation.messages, *conversation.rejected), strict=True)
    if all(after is before for after, before in pairs):
        return conversation
    origin = conversation.origin
    if "prompt_length" in origin:  # the part of the question that came from its first column
        question = next((message.content for message in conversation.messages if message.role == "user"), "")
        origin = {**origin, "prompt_length": len(repair(question[: origin["prompt_length"]]))}
    return replace(conversation, messages=messages, rejected=rejected, origin=origin)


def _repaired(message: Message, repair: Callable[[str], str]) -> Message:
    content = repair(message.content)
    return message if content == message.content else replace(message, content=content)
