"""Which rows belong together when rows are shared out, and what each side shall have its share of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from finetune_exe.data.duplicates.find import find_duplicates
from finetune_exe.data.duplicates.pairs import Pair, cluster
from finetune_exe.data.duplicates.rows import RowWords

Stratum = Literal["label", "length"]
LARGEST_FAMILY = 0.2
"""Where more than this share of the rows hang together by likeness, the data is of one mould: groups alone count."""
SHARED_PROMPT_ROWS, SHARED_PROMPT_SHARE = 10, 0.01
"""A prompt of more rows, and of more than this share of them, is an instruction they have in common."""
LABEL_WORDS, MOST_LABELS, ROWS_A_LABEL = 8, 200, 5
"""Answers are labels where none is longer, there are no more, and each has so many rows on average."""
LENGTH_STRATA, LENGTH_VARIES = 4, 2.0
"""Rows are divided by length in so many strata where the longest tenth is so many times as long as the shortest."""


class Strata(NamedTuple):
    """The strata of rows."""

    kind: Stratum
    numbers: list[int]
    """Of each row."""
    num_strata: int


class Families(NamedTuple):
    """Which rows must stay together."""

    names: list[str]
    """A name for each row, equal for rows that belong together: the first in alphabetical order of their groups."""
    one_mould: int
    """Rows of the family that was too large to be kept together, so that groups alone count; 0 where there is none."""


def families(rows: RowWords, groups: Sequence[str]) -> Families:
    """Name for each row the rows it must stay with: those of its group, its near duplicates, and those of its prompt.

    Args:
        rows: The words of the rows.
        groups: The group of each row, as the plan names it.
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    of_group = [numbers[group] for group in groups]
    same_group = _with_first(of_group, range(len(groups)))
    similar = [*_with_first(find_duplicates(rows).clusters.tolist(), range(len(rows))), *_same_prompt(rows)]
    together = cluster(len(rows), [*same_group, *similar]).tolist()
    largest = max(Counter(of_group).values(), default=0)
    one_mould = max(Counter(together).values(), default=0)
    if one_mould > max(largest, LARGEST_FAMILY * len(rows)):
        together = of_group
    else:
        one_mould = 0
    names: dict[int, str] = {}
    for group, family in zip(groups, together, strict=True):
        names[family] = min(names.get(family, group), group)
    return Families([names[family] for family in together], one_mould)


def find_strata(rows: RowWords, by: Literal["auto", "label", "length"] | None) -> Strata | None:
    """Divide rows by label or by length.

    Args:
        rows: The words of the rows.
        by: auto takes labels where the answers are labels, or else length where it varies.
    """
    if by is None or not len(rows):
        return None
    if by in ("auto", "label"):
        _, labels = np.unique(rows.answer_hashes, return_inverse=True)
        count = int(labels.max()) + 1
        longest = int((rows.starts[1:] - rows.answers).max())
        are_labels = longest <= LABEL_WORDS and 2 <= count <= min(MOST_LABELS, len(rows) / ROWS_A_LABEL)
        if by == "label" or are_labels:
            return Strata("label", labels.tolist(), count)
    low, high = np.quantile(rows.lengths, (0.1, 0.9))
    if by == "auto" and high < LENGTH_VARIES * max(1, low):
        return None
    borders = np.quantile(rows.lengths, np.arange(1, LENGTH_STRATA) / LENGTH_STRATA)
    return Strata("length", np.searchsorted(borders, rows.lengths).tolist(), LENGTH_STRATA)


def _same_prompt(rows: RowWords) -> list[Pair]:
    """Pair rows of one prompt, unless it is an instruction that many rows share."""
    _, inverse, counts = np.unique(rows.prompt_hashes, return_inverse=True, return_counts=True)
    own = counts[inverse] <= max(SHARED_PROMPT_ROWS, SHARED_PROMPT_SHARE * len(rows))
    asked = np.flatnonzero(own & (rows.answers > rows.starts[:-1]))
    return _with_first(inverse[asked].tolist(), asked.tolist())


def _with_first(names: Iterable[int], rows: Iterable[int]) -> list[Pair]:
    """Pair each row with the first of the same name."""
    first: dict[int, int] = {}
    pairs = (Pair(row, first.setdefault(name, row), 1.0) for name, row in zip(names, rows, strict=True))
    return [pair for pair in pairs if pair.index != pair.of_index]
