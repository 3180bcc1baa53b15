"""Worked answers: the result is taken out of the text and compared as a number where it is one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from finetune_exe.evaluation.tasks.answered import Answered, TaskScores, mean

_MARKS = (
    re.compile(r"####\s*(.+)"),
    re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}"),
    re.compile(r"(?:final answer|the answer|answer)\s*(?:is|:|=)\s*\**\s*(.+?)(?:\.(?:\s|$)|\n|$)", re.IGNORECASE),
)
_NUMBER = re.compile(r"-?\$?\s?\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?")


class Reasoning:
    """Compares results, not the way to them."""

    name = "reasoning"

    def score(self, items: Sequence[Answered]) -> TaskScores:
        """Score whether the result is right; tell how often a result was marked, and how long answers are."""
        right = [float(same_result(extract(item.answer), extract(item.reference))) for item in items]
        return TaskScores(
            items={"accuracy": right},
            figures={
                "result_marked": mean([float(any(mark.search(item.answer) for mark in _MARKS)) for item in items]),
                "words": mean([len(item.answer.split()) for item in items]),
            },
        )


def extract(text: str) -> str:
    """Take the result out of an answer: behind a mark, the last one counting; else the last number; else all of it."""
    for mark in _MARKS:
        found = mark.findall(text)
        if found:
            return str(found[-1]).strip()
    numbers = _NUMBER.findall(text)
    return str(numbers[-1]).strip() if numbers else " ".join(text.split())


def same_result(one: str, other: str) -> bool:
    """Compare two results: as numbers where both hold one, else as words."""
    a, b = as_number(one), as_number(other)
    if a is not None and b is not None:
        return a == b
    return _plain(one) == _plain(other)


def as_number(text: str) -> Fraction | None:
    """Read a number: thousands' commas, a currency, a unit behind it, a percentage or a fraction may be there."""
    found = _NUMBER.findall(text.replace("\\$", "$"))
    if len(found) != 1:
        return None
    plain = re.sub(r"[,$\s]", "", found[0])
    try:
        return Fraction(plain)
    except (ValueError, ZeroDivisionError):
        return None


def _plain(text: str) -> str:
    return " ".join(text.split()).strip(" .()\"'*$").casefold()
