"""Extracted fields and entities: those found exactly, those found in part, and answers in the wrong form."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from finetune_exe.evaluation.tasks.answered import Answered, TaskScores, mean
from finetune_exe.evaluation.tasks.structured import find_json

Pairs = set[tuple[str, str]]


class Extraction:
    """Compares the (field, value) pairs of answers with those wanted."""

    name = "extraction"

    def score(self, items: Sequence[Answered]) -> TaskScores:
        """Score pairs; JSON, `field: value` lines and lists are read."""
        strict, partial, formed = [], [], []
        hits = given_total = wanted_total = 0
        for item in items:
            wanted, given = read_pairs(item.reference), read_pairs(item.answer)
            strict.append(_f1(len(given & wanted), len(given), len(wanted)))
            partial.append(_partial_f1(given, wanted))
            formed.append(
                float(
                    (find_json(item.answer) is None) == (find_json(item.reference) is None)
                    and bool(given or not wanted)
                )
            )
            hits, given_total, wanted_total = (
                hits + len(given & wanted),
                given_total + len(given),
                wanted_total + len(wanted),
            )
        return TaskScores(
            items={"span_f1": strict, "partial_f1": partial},
            figures={"micro_f1": _f1(hits, given_total, wanted_total), "right_form": mean(formed)},
        )


def read_pairs(text: str) -> Pairs:
    """Read the pairs of an answer: nested JSON by path, else lines `field: value`, else items of a list."""
    content = find_json(text)
    if content is not None:
        return set(_walk(content, ""))
    pairs: Pairs = set()
    for line in re.split(r"[\n;]", text):
        name, colon, value = line.strip(" -*\t").partition(":")
        values = [part for part in (value if colon else name).split(",") if part.strip()]
        pairs |= {(_plain(name) if colon else "", _plain(part)) for part in values}
    return pairs


def _walk(content: Any, path: str) -> list[tuple[str, str]]:
    if isinstance(content, dict):
        return [pair for key, value in content.items() for pair in _walk(value, f"{path}.{_plain(str(key))}")]
    if isinstance(content, list):
        return [pair for value in content for pair in _walk(value, path)]
    return [(path, _plain(content if isinstance(content, str) else json.dumps(content)))]


def _plain(text: str) -> str:
    return " ".join(text.split()).strip(" .\"'").casefold()


def _f1(hits: float, given: int, wanted: int) -> float:
    return 1.0 if given == wanted == 0 else 2 * hits / (given + wanted)


def _partial_f1(given: Pairs, wanted: Pairs) -> float:
    """Count the share of words in common of the best match within a field."""
    if not given or not wanted:
        return float(given == wanted)

    def best(pair: tuple[str, str], others: Pairs) -> float:
        return max((_overlap(pair[1], value) for field, value in others if field == pair[0]), default=0.0)

    precision = mean([best(pair, wanted) for pair in given])
    recall = mean([best(pair, given) for pair in wanted])
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _overlap(one: str, other: str) -> float:
    a, b = set(one.split()), set(other.split())
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0
