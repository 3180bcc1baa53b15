"""Faults of form that only the worse answer of a pair has."""

from __future__ import annotations

from dataclasses import replace

from finetune_exe.data.checks import (
    characters,
    gibberish,
    html_residue,
    mojibake,
    page_scripts,
    repetition,
    special_tokens,
)
from finetune_exe.data.checks.check import Check, RowCheck
from finetune_exe.data.checks.example import pair
from finetune_exe.data.checks.row import RowView

_OF_FORM: tuple[Check, ...] = (
    *characters.CHECKS,
    *mojibake.CHECKS,
    *special_tokens.CHECKS,
    *html_residue.CHECKS,
    *page_scripts.CHECKS,
    *repetition.CHECKS,
    *gibberish.CHECKS,
)
_NO_FAULT_HERE = frozenset({"repeated_turns", "quoted_token", "invisible_characters"})


def _find(row: RowView) -> str | None:
    conversation = row.conversation
    if row.rejected is None or not row.rejected.strip():
        return None
    asked = tuple(message for message in conversation.messages if message.role == "user")[-1:]
    worse = RowView(replace(conversation, messages=(*asked, *conversation.rejected), rejected=()))
    for check in _OF_FORM:
        if not isinstance(check, RowCheck) or check.code in _NO_FAULT_HERE:
            continue
        found = check.find(worse)
        if found is not None and check.find(row) is None:
            return f"{check.code}: {found}"
    return None


CHECKS = (
    RowCheck(
        code="rejected_fault",
        severity="info",
        message="only the worse answer has a fault of form, which then decides, not what it says",
        fix="mend the worse answer, or drop the row",
        find=_find,
        layouts=frozenset({"preference"}),
        example=pair("Who?", "A man of the town.", "Sh\u00c3\u00a9 said \u00e2\u20ac\u0153yes\u00e2\u20ac\u009d."),
        counterexample=pair("Who?", "A man of the town.", "I do not know that."),
    ),
)
