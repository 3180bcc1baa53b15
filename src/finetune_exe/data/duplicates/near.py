"""Judge pairs of rows that may be nearly the same, each on its real words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from finetune_exe.data.duplicates.pairs import RowPairs
from finetune_exe.data.duplicates.rows import RowWords, Stretches
from finetune_exe.data.duplicates.shingles import in_parts
from finetune_exe.data.duplicates.words import HASH_BITS, Hashes, Words32, begins, word_hashes

NEAR = 0.7
"""Rows that share this much of their distinct runs of five words are near duplicates: one word in 29 may differ."""
SAME_PART = 0.5
"""Prompts, and answers, of near duplicates share this much of their words, if the prompts are not the same: the same
answer to another question is none, nor is another question on the same page."""
SAME_ORDER = 0.85
"""Rows with this much of their words in common, in the same order, are copies, however they were edited."""
SHORTEST_EDITED = 6
"""Rows of fewer words are never called edited copies: two short sentences are easily alike."""

_REPEAT_BITS = 12
"""How often a word came before, in the bits that a pair's number and a word's hash leave of 64."""


def parts_alike(left: RowWords, right: RowWords, pairs: RowPairs) -> NDArray[np.bool_]:
    """Whether the prompts are the same, or prompts and answers are each alike.

    A prompt that is the same but for the order of its words counts as the same.
    """
    prompts = word_overlap(left.prompt(pairs.left), right.prompt(pairs.right))
    alike: NDArray[np.bool_] = prompts >= SAME_PART
    rest = pairs.where(alike)
    prompted = left.prompt(rest.left).lengths > 0
    alike[alike] = (answer_overlap(left, right, rest) >= SAME_PART) | (prompts[alike] == 1) & prompted
    return alike


def answer_overlap(left: RowWords, right: RowWords, pairs: RowPairs) -> NDArray[np.float64]:
    """Share of words that the answers of each pair have in common."""
    return word_overlap(left.answer(pairs.left), right.answer(pairs.right))


def edited_copies(left: RowWords, right: RowWords, pairs: RowPairs) -> NDArray[np.bool_]:
    """Whether the rows of each pair have most words in the same order, and prompts and answers alike."""
    lengths = left.lengths[pairs.left], right.lengths[pairs.right]
    shorter = np.minimum(*lengths)
    alike = (shorter >= SHORTEST_EDITED) & (2 * shorter >= SAME_ORDER * (lengths[0] + lengths[1]))
    alike[alike] = parts_alike(left, right, pairs.where(alike))
    rest = pairs.where(alike)
    # what is in common is never less than what is in the same order, which takes a hundred times as long
    alike[alike] = word_overlap(left.whole(rest.left), right.whole(rest.right)) >= SAME_ORDER
    for place in np.flatnonzero(alike).tolist():
        alike[place] = in_order(left, int(pairs.left[place]), right, int(pairs.right[place])) >= SAME_ORDER
    return alike


def in_order(left: RowWords, one: int, right: RowWords, other: int, *, strict: bool = False) -> float:
    """Share of the words of two rows that both have in the same order; strict: also in the same case and marks."""
    words = left.words_of(one), right.words_of(other)
    return common_order(*(words if strict else map(word_hashes, words)))


def word_overlap(left: Stretches, right: Stretches) -> NDArray[np.float64]:
    """Count the words two stretches share, as often as both have them, over their mean length; 1 for two empty ones."""
    parts = in_parts(lambda *cut: _overlap(left.part(*cut), right.part(*cut)), left.lengths + right.lengths)
    return np.concatenate([np.zeros(0), *parts])


def _overlap(left: Stretches, right: Stretches) -> NDArray[np.float64]:
    number = len(left.first)
    keys = []
    for side in (left, right):
        pair = np.repeat(np.arange(number, dtype=np.uint64), side.lengths) << np.uint64(HASH_BITS)
        keys.append(_numbered(np.sort(pair | word_hashes(side.copy().words))))
    joined = np.sort(np.concatenate(keys))
    shared = joined[1:][joined[1:] == joined[:-1]] >> np.uint64(HASH_BITS + _REPEAT_BITS)
    lengths = left.lengths + right.lengths
    both = np.bincount(shared.astype(np.int64), minlength=number)
    return np.where(lengths > 0, 2 * both / np.maximum(lengths, 1), 1.0)


def _numbered(ordered: Hashes) -> Hashes:
    """Number equal keys, so that each is found as often as both have it."""
    position = np.arange(len(ordered))
    repeat = position - np.maximum.accumulate(np.where(begins(ordered), position, 0))
    return ordered << np.uint64(_REPEAT_BITS) | np.minimum(repeat, (1 << _REPEAT_BITS) - 1).astype(np.uint64)


def common_order(one: Words32, other: Words32) -> float:
    """Length of the longest common subsequence of two word arrays over their mean length; 1 for two empty ones.

    Source: the bit-parallel form of Hyyro, Bit-parallel LCS-length computation revisited, AWOCA 2004.
    """
    if not len(one) + len(other):
        return 1.0
    places: dict[int, int] = {}
    for position, word in enumerate(one.tolist()):
        places[word] = places.get(word, 0) | 1 << position
    full = (1 << len(one)) - 1
    row = full
    for word in other.tolist():
        matches = row & places.get(word, 0)
        row = (row + matches | row - matches) & full
    return 2 * (len(one) - row.bit_count()) / (len(one) + len(other))
