"""Find all rows that repeat others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetune_exe.data.duplicates.minhash import likely_pairs
from finetune_exe.data.duplicates.near import NEAR, edited_copies, parts_alike
from finetune_exe.data.duplicates.pairs import Pair, RowPairs, cluster
from finetune_exe.data.duplicates.rare import rare_pairs
from finetune_exe.data.duplicates.repeats import find_conflicts, find_repeats
from finetune_exe.data.duplicates.rows import RowWords, choose_rows
from finetune_exe.data.duplicates.shingles import may_be_contained, shared_shingles
from finetune_exe.data.duplicates.words import Places

CONTAINED = 0.9
"""A row is contained in another that has this much of its distinct runs of five words: one word in 50 may differ."""
LONGER = 1.25
"""The row that contains another has so many times its words or more; two that are closer share 0.8 of all their runs,
and are near duplicates."""
SHORTEST_CONTAINED = 15
"""Words a row must have to be called contained: short sentences stand in other texts by chance."""
EDITED_SHARE, CONTAINED_SHARE = 0.3, 0.6
"""Share of rare runs of words that makes a pair worth looking at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """Rows that repeat an earlier one, each in one list only; the pairs of a list are sorted by row."""

    exact: tuple[Pair, ...]
    """The same to the byte."""
    normalised: tuple[Pair, ...]
    """The same words and signs in the same order: case, white space, dividing punctuation or Unicode form differ."""
    near: tuple[Pair, ...]
    """Sure: similarity at or above the threshold, prompt and answer each alike."""
    edited: tuple[Pair, ...]
    """Likely: below the threshold, but most words stand in the same order."""
    contained: tuple[Pair, ...]
    """Wholly, or almost, inside a longer row; the longer one may come later."""
    conflicting: tuple[Pair, ...]
    """The same prompt with another answer."""
    clusters: Places
    """For each row the first row of its cluster, over all lists but the conflicting and the contained."""


def find_duplicates(rows: RowWords, *, threshold: float = NEAR, thorough: bool = True) -> Duplicates:
    """Find all rows that repeat others.

    Args:
        rows: Rows of any number of files, in one order.
        threshold: Least similarity of near duplicates, from 0.5 to 1.
        thorough: Look also for much edited copies and contained rows.
    """
    repeats = find_repeats(rows)
    firsts = np.flatnonzero(repeats.first == np.arange(len(rows)))
    distinct = choose_rows(rows, firsts)
    sure = _near(distinct, threshold)
    near = RowPairs(firsts[sure.pairs.right], firsts[sure.pairs.left]).as_pairs(sure.similarity)
    edited, contained = _rarely_shared(distinct, firsts, sure.pairs) if thorough else ([], [])
    repeated = [*repeats.exact, *repeats.normalised, *repeats.retouched]
    named = {pair.index for pair in repeated}
    named_near = _each_once(near, named)
    named |= {pair.index for pair in named_near}
    named_edited = _each_once(edited, named)
    named |= {pair.index for pair in named_edited}
    return Duplicates(
        exact=repeats.exact,
        normalised=repeats.normalised,
        near=tuple(sorted((*repeats.retouched, *named_near))),
        edited=named_edited,
        contained=_each_once(contained, named),
        conflicting=find_conflicts(rows),
        clusters=cluster(len(rows), [*repeated, *near, *edited]),
    )


class _Near(NamedTuple):
    pairs: RowPairs
    similarity: NDArray[np.float64]


def _near(distinct: RowWords, threshold: float) -> _Near:
    """Verify what MinHash proposes; the earliest partner of a row comes first."""
    candidates = likely_pairs(distinct, threshold)
    similarity = shared_shingles(distinct, distinct, candidates).jaccard()
    kept = similarity >= threshold
    kept[kept] = parts_alike(distinct, distinct, candidates.where(kept))
    return _Near(candidates.where(kept), similarity[kept])


def _rarely_shared(distinct: RowWords, firsts: Places, near: RowPairs) -> tuple[list[Pair], list[Pair]]:
    """Find edited copies and contained rows among those that share rare runs of words.

    Args:
        distinct: The rows.
        firsts: Their numbers among all rows.
        near: Pairs that are known to be near duplicates, and need no other name.

    Returns:
        The copies, the earliest partner first; and the contained rows, the shortest partner first.
    """
    candidates = rare_pairs(distinct)
    left, right = candidates.pairs
    number, lengths = len(distinct), distinct.lengths
    chosen = candidates.of_longer >= EDITED_SHARE
    chosen &= ~np.isin(left * number + right, near.left * number + near.right)
    chosen[chosen] = edited_copies(distinct, distinct, candidates.pairs.where(chosen))
    copies = candidates.pairs.where(chosen)
    similarity = shared_shingles(distinct, distinct, copies).jaccard()
    edited = RowPairs(firsts[copies.right], firsts[copies.left]).as_pairs(similarity)
    swapped = lengths[left] > lengths[right]
    inside = RowPairs(np.where(swapped, right, left), np.where(swapped, left, right))
    chosen = candidates.of_shorter >= CONTAINED_SHARE
    chosen &= lengths[inside.left] >= SHORTEST_CONTAINED
    chosen &= lengths[inside.right] >= LONGER * lengths[inside.left]
    chosen[chosen] = may_be_contained(distinct, distinct, inside.where(chosen), CONTAINED)
    inside = inside.where(chosen)
    share = shared_shingles(distinct, distinct, inside).contained()
    kept = np.flatnonzero(share >= CONTAINED)
    kept = kept[np.argsort(lengths[inside.right[kept]], kind="stable")]
    inside = inside.where(kept)
    return edited, RowPairs(firsts[inside.left], firsts[inside.right]).as_pairs(share[kept])


def _each_once(pairs: list[Pair], known: set[int]) -> tuple[Pair, ...]:
    """Keep for each row that is not known yet the first of its pairs."""
    best: dict[int, Pair] = {}
    for pair in pairs:
        if pair.index not in known:
            best.setdefault(pair.index, pair)
    return tuple(sorted(best.values()))
