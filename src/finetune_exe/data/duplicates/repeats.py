"""Find rows that repeat an earlier one, word for word, and prompts that are answered in more than one way."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from finetune_exe.data.duplicates.near import SAME_PART, answer_overlap
from finetune_exe.data.duplicates.pairs import Pair, RowPairs
from finetune_exe.data.duplicates.rows import RowWords
from finetune_exe.data.duplicates.words import FIRST_CAPITAL, MARK_FOLLOWS, Hashes, Places, Words32, begins

MANY_ANSWERS = 10
"""A prompt with more different answers than this is an instruction that many rows share, and no contradiction."""
MANY_ANSWERS_SHARE = 0.01
"""The same, as a share of all rows, where that is more."""
LONG_ANSWER = 8
"""Answers of so many words can be the same in other words; shorter ones, a label or a number, are another answer."""
MANY_CHANGED, DENSELY_CHANGED = 3, 0.6
"""So many words, and this share of those between the first and the last, changed the same way are a system."""


class Repeats(NamedTuple):
    """Rows that say again what an earlier row said."""

    exact: tuple[Pair, ...]
    """To the byte."""
    normalised: tuple[Pair, ...]
    """But for the case of all letters, white space, punctuation and Unicode form."""
    retouched: tuple[Pair, ...]
    """The same words, but with the case or the punctuation of single ones changed."""
    first: Places
    """For each row the first one that has its words; a row without words stands for itself."""


def find_repeats(rows: RowWords) -> Repeats:
    """Find the rows whose words stood before, in the same order, prompt and answer alike."""
    first = first_of_equal(rows.row_hashes)
    first_exact = first_of_equal(rows.exact)
    wordless = rows.lengths == 0
    first[wordless] = first_exact[wordless]
    exact: list[Pair] = []
    normalised: list[Pair] = []
    retouched: list[Pair] = []
    for row in np.flatnonzero((first < np.arange(len(rows))) | (first_exact < np.arange(len(rows)))).tolist():
        of = int(first_exact[row])
        if of < row:
            exact.append(Pair(row, of, 1.0))
            continue
        of = int(first[row])
        (normalised if repeated_in_form(rows, row, rows, of) else retouched).append(Pair(row, of, 1.0))
    return Repeats(tuple(exact), tuple(normalised), tuple(retouched), first)


def find_conflicts(rows: RowWords) -> tuple[Pair, ...]:
    """Find rows whose prompt stood before with another answer.

    A prompt answered in a great many ways is an instruction shared by many rows, and left alone. Nor do two longer
    answers conflict that say it in nearly the same words. Rows without a prompt or an answer play no part.
    """
    asked = np.flatnonzero((rows.answers > rows.starts[:-1]) & (rows.starts[1:] > rows.answers))
    order = asked[np.argsort(rows.prompt_hashes[asked], kind="stable")]
    prompts, answers = rows.prompt_hashes[order], rows.answer_hashes[order]
    bounds = np.append(np.flatnonzero(begins(prompts)), len(order))
    several = np.flatnonzero(np.diff(bounds) > 1)
    most = max(MANY_ANSWERS, MANY_ANSWERS_SHARE * len(rows))
    found = []
    for first, after in zip(bounds[several].tolist(), bounds[several + 1].tolist(), strict=True):
        other = np.flatnonzero(answers[first:after] != answers[first]) + first
        if len(other) and len(np.unique(answers[first:after])) <= most:
            found += [Pair(row, int(order[first]), 1.0) for row in order[other].tolist()]
    pairs = RowPairs(np.array([p.index for p in found], np.int64), np.array([p.of_index for p in found], np.int64))
    lengths = rows.starts[1:] - rows.answers
    reworded = answer_overlap(rows, rows, pairs) >= SAME_PART
    reworded &= np.minimum(lengths[pairs.left], lengths[pairs.right]) >= LONG_ANSWER
    return tuple(sorted(pair for pair, same in zip(found, reworded, strict=True) if not same))


def first_of_equal(keys: Hashes) -> Places:
    """For each place, the first one with the same key."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse]


def first_equal(known: Hashes, sought: Hashes) -> Places:
    """The first place of each sought key among the known ones, or -1; 0, as of no words at all, is never found."""
    if not len(known):
        return np.full(len(sought), -1, np.int64)
    distinct, first = np.unique(known, return_index=True)
    place = np.minimum(np.searchsorted(distinct, sought), len(distinct) - 1)
    return np.where((distinct[place] == sought) & (sought != 0), first[place], -1)


def repeated_in_form(left: RowWords, one: int, right: RowWords, other: int) -> bool:
    """Whether two rows with the same words differ in form only: in case and marks throughout, not in single words."""
    bounds = [
        (rows.starts[row], rows.answers[row], rows.starts[row + 1]) for rows, row in ((left, one), (right, other))
    ]
    return not any(
        changes_are_scattered(
            left.words[bounds[0][part] : bounds[0][part + 1]], right.words[bounds[1][part] : bounds[1][part + 1]]
        )
        for part in (0, 1)
    )


def changes_are_scattered(one: Words32, other: Words32) -> bool:
    """Whether equal words differ in the case or the punctuation of some of them, in no system.

    All small letters, no punctuation, or a stretch all in capitals is a change of form. Single words changed here and
    there are the work of an editor, or of somebody who hides a copy.
    """
    assert len(one) == len(other)
    capitals = [words & np.uint32(0b11 << FIRST_CAPITAL) for words in (one, other)]
    marks = [words[:-1] & np.uint32(1 << MARK_FOLLOWS) for words in (one, other)]
    return _scattered(*capitals) or _scattered(*marks)


def _scattered(one: Words32, other: Words32) -> bool:
    changed = np.flatnonzero(one != other)
    if not len(changed) or not one.any() or not other.any():
        return False
    span = int(changed[-1]) - int(changed[0]) + 1
    one_way = (one[changed] > other[changed]).all() or (one[changed] < other[changed]).all()
    return not (one_way and len(changed) >= MANY_CHANGED and len(changed) >= DENSELY_CHANGED * span)
