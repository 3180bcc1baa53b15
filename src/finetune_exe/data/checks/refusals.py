"""Answers that decline to answer."""

from __future__ import annotations

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.row import RowView
from finetune_exe.knowledge.refusals import refusal_in


def _find(row: RowView) -> str | None:
    if row.layout in ("text", "classification", "preference"):
        return None
    for answer in row.answers:
        if refusal_in(answer) is not None:
            return shorten(answer)
    return None


CHECKS = (
    RowCheck(
        code="refusal",
        severity="warning",
        message="the assistant declines to answer; a model learns that fast, also where it should answer",
        fix="keep the refusals that are wanted, and answer or drop the others",
        find=_find,
        usual=0.05,
        example=asked("Write a poem.", "As an AI language model, I do not have the ability to do that."),
        counterexample=asked("What is it?", 'The phrase "As an AI language model" usually signals a refusal.'),
    ),
)
