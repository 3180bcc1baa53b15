"""Find rows whose label is not the one that rows like them have."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WORD = re.compile(r"[^\W_]+")
_MAX_ROWS = 100_000
"""More rows are not looked at: a table of words by labels is made, and the advice is the same."""
_MAX_WORDS = 20_000
"""Columns of that table; rarer words stand in few rows each and tell nothing."""
_RATIO = 1.7
"""How many times as like the rows of another label it must be."""
_MIN_LIKENESS = 0.08
"""How like them (cosine) it must be at all."""
_MIN_AGREEMENT = 0.6
"""Share of the rows that are likest to the rows of their own label; with fewer, words do not tell the labels apart."""


class Unlikely(NamedTuple):
    """A row, and the label it would rather have."""

    row: int
    likelier: str


def unlikely_labels(texts: Sequence[str], labels: Sequence[str]) -> Iterator[Unlikely]:
    """Compare every row with the middle of each label's other rows, as vectors of their rarer words.

    Args:
        texts: What was labelled.
        labels: A label for each.
    """
    import numpy as np

    texts, labels = texts[:_MAX_ROWS], labels[:_MAX_ROWS]
    names = sorted(set(labels))
    place = {name: number for number, name in enumerate(names)}
    own = np.array([place[label] for label in labels])
    rows = _vectors(texts)
    if not rows:
        return
    sums = np.zeros((len(names), max((int(row.words.max()) + 1 for row in rows if len(row.words)), default=1)))
    for row, label in zip(rows, own.tolist(), strict=True):
        sums[label, row.words] += row.weights
    squares = (sums * sums).sum(axis=1)
    likeness = np.zeros((len(rows), len(names)))
    for number, row in enumerate(rows):
        shared = sums[:, row.words] @ row.weights
        length = squares.copy()
        length[own[number]] -= 2 * shared[own[number]] - 1
        shared[own[number]] -= 1
        likeness[number] = shared / np.sqrt(np.maximum(length, 1e-9))
    mine = likeness[np.arange(len(rows)), own]
    best = likeness.argmax(axis=1)
    if np.mean(best == own) < _MIN_AGREEMENT:
        return
    most = likeness.max(axis=1)
    for number in np.flatnonzero((most > _RATIO * np.maximum(mine, 1e-9)) & (most > _MIN_LIKENESS)).tolist():
        yield Unlikely(number, names[int(best[number])])


class _Vector(NamedTuple):
    """The words of a text by number, and the weight of each; the weights have length 1."""

    words: NDArray[np.int64]
    weights: NDArray[np.float64]


def _vectors(texts: Sequence[str]) -> list[_Vector]:
    import numpy as np

    words = [set(_WORD.findall(text.casefold())) for text in texts]
    seen = Counter(word for row in words for word in row)
    known = {word: number for number, (word, count) in enumerate(seen.most_common(_MAX_WORDS)) if count > 1}
    rarity = np.array([np.log(len(texts) / seen[word]) for word in known])
    vectors = []
    for row in words:
        numbers = np.array(sorted(known[word] for word in row if word in known), np.int64)
        weights = rarity[numbers] if len(numbers) else np.zeros(0)
        vectors.append(_Vector(numbers, weights / max(1e-9, float(np.sqrt((weights * weights).sum())))))
    return vectors
