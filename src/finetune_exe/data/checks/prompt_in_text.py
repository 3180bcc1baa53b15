"""Texts that are a question and its answer in one, of which all would be learned."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from finetune_exe.data.checks.check import DataCheck, Hit
from finetune_exe.data.checks.example import text
from finetune_exe.data.checks.facts import Facts
from finetune_exe.text.formats.marked_turns import usual_marks

_MIN_TEXTS = 10


def _find(facts: Facts) -> Iterator[Hit]:
    """Find texts that go from the same mark to the same other one as nearly all others do."""
    if facts.layouts != {"text"} or len(facts) < _MIN_TEXTS:
        return
    marks = usual_marks(facts.marks, len(facts))
    if marks is not None:
        turns = shlex.quote(",".join(marks))
        said = f"{facts.marks[marks]:,} texts go from {marks.asks!r} to {marks.answers!r}: --turns {turns}"
        yield from (Hit(int(index), said) for index in facts.index.tolist())


_TEXT = "Table: ships\nQ: How many are older than {}?\nA: SELECT count(*) FROM ships WHERE age > {}"

CHECKS = (
    DataCheck(
        code="prompt_in_text",
        severity="info",
        message="each text holds a question and its answer: as texts, both are learned",
        fix=(
            "to learn the answers alone, part them at what stands before each question and each answer, as in: "
            "fine-tune dataset chatml FILE --turns 'Q:,A:' -o NEW.jsonl"
        ),
        find=_find,
        example=[text(_TEXT.format(age, age)) for age in range(12)],
        counterexample=[text(f"Ship {age}:\nIt is {age} years old.\nHarbour {age}: Genoa") for age in range(12)],
    ),
)
