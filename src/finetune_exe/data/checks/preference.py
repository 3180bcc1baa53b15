"""Pairs of a better and a worse answer."""

from __future__ import annotations

import re
from dataclasses import replace

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.emptiness import is_blank
from finetune_exe.data.checks.example import pair
from finetune_exe.data.checks.row import RowView
from finetune_exe.knowledge.refusals import refusal_in
from finetune_exe.text.conversation import Message

_LEAD_CHARACTERS = 20
"""What may stand before a question that an answer says again: "### Question:" and a quote."""
_LEAD = re.compile(
    r"\s*(?:(?:#{2,3} ?)?(?:Question|Q|Prompt|Instruction|User|Human) ?:)?\s*[\"'\u201c\u00ab>*]*\s*", re.IGNORECASE
)
_BEGINNING, _SAME = 80, 20
"""Characters of two answers that are looked at first, and those that must be the same."""
_SCORES = (
    ("chosen_score", "rejected_score"), ("score_chosen", "score_rejected"), ("chosen_rating", "rejected_rating"),
    ("chosen_reward", "rejected_reward"), ("chosen-rating", "rejected-rating"),
)  # fmt: skip
_MIN_PROMPT = 8
"""Characters of a prompt that an answer does not begin with by chance."""


def _begins_with(answer: str, prompt: str) -> bool:
    """Whether an answer begins with a question, maybe in quotes or after a word that calls it one."""
    place = answer.find(prompt, 0, len(prompt) + _LEAD_CHARACTERS)
    return place >= 0 and _LEAD.fullmatch(answer, 0, place) is not None


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".! ")


def _equal(row: RowView) -> str | None:
    if row.rejected is None or is_blank(row.answer):
        return None
    if _plain(row.answer[:_BEGINNING])[:_SAME] != _plain(row.rejected[:_BEGINNING])[:_SAME]:
        return None
    return shorten(row.answer) if _plain(row.answer) == _plain(row.rejected) else None


def _scores_reversed(row: RowView) -> str | None:
    extra = row.conversation.extra
    for better, worse in _SCORES if row.rejected is not None else ():
        one, other = extra.get(better), extra.get(worse)
        if isinstance(one, int | float) and isinstance(other, int | float) and one < other:
            return f"{better} {one:g}, {worse} {other:g}"
    return None


def _empty_rejected(row: RowView) -> str | None:
    return shorten(row.answer) if row.rejected is not None and is_blank(row.rejected) else None


def _refusal_chosen(row: RowView) -> str | None:
    if row.rejected is None or refusal_in(row.answer) is None or refusal_in(row.rejected) is not None:
        return None
    return shorten(row.answer)


def _prompt_inside(row: RowView) -> str | None:
    prompt = row.prompt.strip()
    if row.rejected is None or len(prompt) < _MIN_PROMPT or not _begins_with(row.answer, prompt):
        return None
    return None if _begins_with(row.rejected, prompt) else shorten(row.answer)


_PAIR = pair("What is 99 bottles of OOP?", "It is a book by Sandi Metz.", "I do not know that.")
_LAST = _PAIR.messages[-1]
_NO_ANSWER = "I'm sorry, but I cannot assist with that request."

CHECKS = (
    RowCheck(
        code="chosen_equals_rejected",
        severity="error",
        message="the better and the worse answer are the same, so there is nothing to prefer",
        fix="drop the row",
        find=_equal,
        layouts=frozenset({"preference"}),
        example=replace(_PAIR, rejected=(Message(role="assistant", content=_LAST.content + " "),)),
        counterexample=_PAIR,
    ),
    RowCheck(
        code="scores_reversed",
        severity="error",
        message="the answer called better has the lower score",
        fix="swap the two answers, or drop the row",
        find=_scores_reversed,
        layouts=frozenset({"preference"}),
        usual=0.2,
        example=replace(_PAIR, extra={"chosen_score": 2.5, "rejected_score": 9}),
        counterexample=replace(_PAIR, extra={"chosen_score": 9, "rejected_score": 2.5}),
    ),
    RowCheck(
        code="empty_rejected",
        severity="error",
        message="the worse answer is empty",
        fix="write a worse answer, or drop the row",
        find=_empty_rejected,
        layouts=frozenset({"preference"}),
        example=replace(_PAIR, rejected=(Message(role="assistant", content=""),)),
        counterexample=_PAIR,
    ),
    RowCheck(
        code="refusal_chosen",
        severity="warning",
        message="the answer called better declines, the one called worse does not",
        fix="swap the two where the question is harmless, otherwise keep the row",
        find=_refusal_chosen,
        layouts=frozenset({"preference"}),
        usual=0.15,
        example=pair("Sum 2 and 3.", _NO_ANSWER, "It is 5."),
        counterexample=pair("Sum 2 and 3.", "It is 5.", _NO_ANSWER),
    ),
    RowCheck(
        code="prompt_inside_chosen",
        severity="warning",
        message="the answer called better begins with the whole question",
        fix="cut the question off the answer",
        find=_prompt_inside,
        layouts=frozenset({"preference"}),
        usual=0.3,
        example=pair("What is 99 bottles of OOP?", "What is 99 bottles of OOP?\nIt is a book.", "No."),
        counterexample=_PAIR,
    ),
)
