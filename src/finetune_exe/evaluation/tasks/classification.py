"""Labels: accuracy, and what hides behind it when classes are unequal."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from finetune_exe.evaluation.tasks.answered import Answered, TaskScores, mean


class Classification:
    """Compares the label that an answer names with the right one."""

    name = "classification"

    def __init__(self, labels: Sequence[str] = ()) -> None:
        """Know the labels there are beside those of the references."""
        self._labels = [_plain(label) for label in labels]

    def score(self, items: Sequence[Answered]) -> TaskScores:
        """Score labels; macro-F1 is of the labels that are right or given somewhere."""
        gold = [_plain(item.reference) for item in items]
        known = sorted({*gold, *self._labels})
        given = [parse_label(item.answer, known) for item in items]
        right = [float(a == b) for a, b in zip(given, gold, strict=True)]
        labels = sorted(set(gold))
        seen = sorted({*gold, *(label for label in given if label is not None)})
        recalls = {label: mean([r for r, g in zip(right, gold, strict=True) if g == label]) for label in labels}
        worst = min(recalls, key=lambda label: recalls[label])
        return TaskScores(
            items={"accuracy": right},
            figures={
                "macro_f1": mean([f1(given, gold, label) for label in seen]),
                "matthews": matthews([label or "" for label in given], gold),
                "balanced_accuracy": mean(list(recalls.values())),
                "lowest_recall": recalls[worst],
                "unparsed": mean([float(label is None) for label in given]),
            },
            notes=(f"found least often: {worst}", *confusions(given, gold)),
        )


def parse_label(answer: str, labels: Sequence[str]) -> str | None:
    """Find the one label an answer names: all of it, its first line, or the only label in it."""
    plain = _plain(answer)
    if plain in labels:
        return plain
    first = _plain(answer.strip().split("\n", 1)[0])
    if first in labels:
        return first
    named = {label for label in labels if re.search(rf"(?<!\w){re.escape(label)}(?!\w)", plain)}
    longest = {label for label in named if not any(label != other and label in other for other in named)}
    return longest.pop() if len(longest) == 1 else None


def f1(given: Sequence[str | None], gold: Sequence[str], label: str) -> float:
    """Give the F1 of one label."""
    hits = sum(a == b == label for a, b in zip(given, gold, strict=True))
    named = sum(a == label for a in given) + sum(b == label for b in gold)
    return 2 * hits / named if named else 0.0


def matthews(given: Sequence[str], gold: Sequence[str]) -> float:
    """Give Matthews' correlation of several classes; 0 where one side has one class only.

    Source: Gorodkin, Computational Biology and Chemistry 28 (2004).
    """
    n, hits = len(gold), sum(a == b for a, b in zip(given, gold, strict=True))
    ours, theirs = Counter(given), Counter(gold)
    together = sum(ours[label] * theirs[label] for label in theirs)
    spread = (n * n - sum(c * c for c in ours.values())) * (n * n - sum(c * c for c in theirs.values()))
    return (hits * n - together) / math.sqrt(spread) if spread else 0.0


def confusions(given: Sequence[str | None], gold: Sequence[str], *, most: int = 3) -> tuple[str, ...]:
    """Name the most frequent confusions."""
    pairs = Counter((b, a or "no label") for a, b in zip(given, gold, strict=True) if a != b)
    return tuple(f"{b} taken for {a}: {count}" for (b, a), count in pairs.most_common(most))


def calibration_error(confidences: Sequence[float], right: Sequence[bool], *, bins: int = 10) -> float:
    """Give the expected calibration error: mean distance of confidence and accuracy over equal bins.

    Source: Guo et al., ICML 2017, arXiv 1706.04599, eq. 3.
    """
    cells: dict[int, list[tuple[float, bool]]] = {}
    for confidence, hit in zip(confidences, right, strict=True):
        cells.setdefault(min(bins - 1, math.ceil(confidence * bins) - 1 if confidence > 0 else 0), []).append(
            (confidence, hit)
        )
    return sum(abs(sum(c for c, _ in cell) - sum(h for _, h in cell)) for cell in cells.values()) / len(right)


def brier(probabilities: Sequence[Sequence[float]], gold: Sequence[int]) -> float:
    """Give the Brier score of several classes: mean squared distance from the right one's indicator."""
    return mean([
        sum((p - (k == right)) ** 2 for k, p in enumerate(row)) for row, right in zip(probabilities, gold, strict=True)
    ])  # fmt: skip


def _plain(text: str) -> str:
    return " ".join(text.split()).strip(" .,:;!\"'`*").casefold()
