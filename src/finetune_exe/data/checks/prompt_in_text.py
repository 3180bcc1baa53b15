"""Texts that are a question and its answer in one, of which all would be learned."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_exe.data.checks.check import DataCheck, Hit
from finetune_exe.data.checks.example import text
from finetune_exe.data.checks.facts import Facts

_MIN_TEXTS = 10
_MIN_SHARE = 0.9
"""Share of the texts that must have the same two tags."""


def _find(facts: Facts) -> Iterator[Hit]:
    """Find texts whose last part begins with the same word and a colon as that of nearly all others."""
    if facts.layouts != {"text"} or len(facts) < _MIN_TEXTS or not facts.tags:
        return
    (first, last), count = facts.tags.most_common(1)[0]
    if count >= _MIN_SHARE * len(facts):
        said = f"{count:,} texts go from '{first}:' to '{last}:'"
        yield from (Hit(int(index), said) for index in facts.index.tolist())


_TEXT = "Table: ships\nQ: How many are older than {}?\nA: SELECT count(*) FROM ships WHERE age > {}"

CHECKS = (
    DataCheck(
        code="prompt_in_text",
        severity="info",
        message="each text holds a question and its answer: as texts, both are learned",
        fix=(
            "to learn the answers alone, cut each text in two columns first; with jq, where 'A:' is the last word: "
            r"""jq -c '.text / "\nA:" | {prompt: (.[:-1] + [""] | join("\nA:")), completion: .[-1][1:]}' FILE > PAIRS"""
        ),
        find=_find,
        example=[text(_TEXT.format(age, age)) for age in range(12)],
        counterexample=[text(f"Ship {age}:\nIt is {age} years old.\nHarbour {age}: Genoa") for age in range(12)],
    ),
)
