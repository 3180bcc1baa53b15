"""Texts that are a question and its answer in one, of which all would be learned."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from finetune_exe.data.checks.check import DataCheck, Hit
from finetune_exe.data.checks.example import text
from finetune_exe.data.checks.facts import Facts
from finetune_exe.text.formats.dialogue_marks import are_alike, usual_turns

_MIN_TEXTS = 10
"""Fewer texts show no custom."""


def _find(facts: Facts) -> Iterator[Hit]:
    """Find texts that are dialogues of the same form as nearly all others."""
    if facts.layouts != {"text"} or len(facts) < _MIN_TEXTS:
        return
    usual = usual_turns(facts.turns)
    if usual is not None:
        places = [place for place, turns in enumerate(facts.turns) if turns is not None and are_alike(turns, usual)]
        said = f"{len(places):,} texts are parted by --turns {shlex.quote(usual)}"
        yield from (Hit(int(facts.index[place]), said) for place in places)


_TEXT = "Table: ships\nQ: How many are older than {}?\nA: SELECT count(*) FROM ships WHERE age > {}"

CHECKS = (
    DataCheck(
        code="prompt_in_text",
        severity="info",
        message="each text holds a question and its answer: as texts, both are learned",
        fix=(
            "to learn the answers alone, part them, with --turns as found: "
            "fine-tune dataset chatml FILE --turns FORM -o NEW.jsonl"
        ),
        find=_find,
        example=[text(_TEXT.format(age, age)) for age in range(12)],
        counterexample=[text(f"Ship {age}:\nIt is {age} years old.\nHarbour {age}: Genoa") for age in range(12)],
    ),
)
