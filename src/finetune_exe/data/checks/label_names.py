"""Which answers are labels, and which labels are one under two spellings."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection

from finetune_exe.data.checks.facts import Facts
from finetune_exe.data.layout import MAX_LABELS, MIN_ROWS_PER_LABEL

MIN_LABELLED = 0.9
"""Share of the rows that must have a label."""


_WORDS = re.compile(r"\w+")
_QUOTES = frozenset("\"'`*\u201c\u201d")
_CALLED = re.compile(r"^(?:label|category|class|intent|answer) ?: (?=\w)")
"""What a label says before itself."""


def label_counts(facts: Facts) -> Counter[str] | None:
    """Count the labels, or give None where the answers are no labels: too many, too long, or too seldom twice."""
    if "classification" not in facts.layouts and facts.layouts != {"columns"}:
        return None
    counts = Counter(label for label in facts.labels if label is not None)
    if counts.total() < MIN_LABELLED * len(facts):
        return None
    names = {canonical(label) for label in counts}
    return counts if 2 <= len(names) <= MAX_LABELS and counts.total() >= MIN_ROWS_PER_LABEL * len(names) else None


def canonical(label: str) -> str:
    """Write a label so that spellings of one are equal: no case, accents, quotes, or marks between words."""
    plain = unicodedata.normalize("NFKD", label.casefold())
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    if not _QUOTES.isdisjoint(plain):
        plain = plain.strip("\"'`*\u201c\u201d ")
    plain = _CALLED.sub("", plain)
    return re.sub(r"[\s_.,;:!/-]+", " ", plain).strip() or label.strip()


def labels_in(text: str, known: Collection[str]) -> list[str]:
    """Give the known labels that a text holds as whole words, each once, longer ones before those inside them.

    Args:
        text: A label in its canonical form, or a sentence with one.
        known: Canonical labels.
    """
    held, rest = [], f" {' '.join(_WORDS.findall(text))} "
    for label in sorted(known, key=len, reverse=True):
        said = f" {' '.join(_WORDS.findall(label))} "
        if said.strip() and said in rest:
            held.append(label)
            rest = rest.replace(said, "  ")
    return held


def is_typo(label: str, other: str) -> bool:
    """Whether two labels differ by one letter added, left out or changed, or by two that changed places."""
    if abs(len(label) - len(other)) > 1 or label == other:
        return False
    start = 0
    while start < min(len(label), len(other)) and label[start] == other[start]:
        start += 1
    mine, theirs = label[start:], other[start:]
    return (
        mine[1:] == theirs[1:]
        or mine[1:] == theirs
        or mine == theirs[1:]
        or (len(mine) > 1 and len(theirs) > 1 and mine[1] + mine[0] + mine[2:] == theirs)
    )
