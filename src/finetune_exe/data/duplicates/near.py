"""Judge pairs of rows that may be nearly the same, each on its real words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetune_exe.data.duplicates.alike import Stretches, common_order, word_overlap
from finetune_exe.data.duplicates.pairs import RowPairs
from finetune_exe.data.duplicates.words import word_hashes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetune_exe.data.duplicates.rows import RowWords

NEAR = 0.7
"""Rows that share this much of their distinct runs of five words are near duplicates."""
SAME_PART = 0.5
"""Prompts, and answers, of near duplicates share this much of their words, if the prompts are not the same: the same
answer to another question is none, nor is another question on the same page."""
SAME_ORDER = 0.85
"""Rows with this much of their words in common, in the same order, are copies, however they were edited."""
SHORTEST_EDITED = 6
"""Rows of fewer words are never called edited copies: two short sentences are easily alike."""


def parts_alike(left: RowWords, right: RowWords, pairs: RowPairs) -> NDArray[np.bool_]:
    """Whether the prompts are the same, or prompts and answers are each alike.

    A prompt that is the same but for the order of its words counts as the same.
    """
    one, other = pairs
    prompts = word_overlap(
        Stretches(left.words, left.starts[:-1][one], left.answers[one]),
        Stretches(right.words, right.starts[:-1][other], right.answers[other]),
    )
    alike: NDArray[np.bool_] = prompts >= SAME_PART
    one, other, same = one[alike], other[alike], prompts[alike] == 1
    prompted = left.answers[one] > left.starts[:-1][one]
    alike[alike] = (answer_overlap(left, right, RowPairs(one, other)) >= SAME_PART) | same & prompted
    return alike


def answer_overlap(left: RowWords, right: RowWords, pairs: RowPairs) -> NDArray[np.float64]:
    """Share of words that the answers of each pair have in common."""
    one, other = pairs
    return word_overlap(
        Stretches(left.words, left.answers[one], left.starts[1:][one]),
        Stretches(right.words, right.answers[other], right.starts[1:][other]),
    )


def edited_copies(left: RowWords, right: RowWords, pairs: RowPairs) -> NDArray[np.bool_]:
    """Whether the rows of each pair have most words in the same order, and prompts and answers alike."""
    import numpy as np

    lengths = left.lengths[pairs.left], right.lengths[pairs.right]
    shorter = np.minimum(*lengths)
    alike = (shorter >= SHORTEST_EDITED) & (2 * shorter >= SAME_ORDER * (lengths[0] + lengths[1]))
    alike[alike] = parts_alike(left, right, RowPairs(pairs.left[alike], pairs.right[alike]))
    one, other = pairs.left[alike], pairs.right[alike]
    in_common = word_overlap(  # never less than what is in the same order, which takes a hundred times as long
        Stretches(left.words, left.starts[:-1][one], left.starts[1:][one]),
        Stretches(right.words, right.starts[:-1][other], right.starts[1:][other]),
    )
    alike[alike] = in_common >= SAME_ORDER
    for place in np.flatnonzero(alike).tolist():
        alike[place] = in_order(left, int(pairs.left[place]), right, int(pairs.right[place])) >= SAME_ORDER
    return alike


def in_order(left: RowWords, one: int, right: RowWords, other: int, *, strict: bool = False) -> float:
    """Share of the words of two rows that both have in the same order; strict: also in the same case and marks."""
    places = ((left, one), (right, other))
    words = [rows.words[rows.starts[row] : rows.starts[row + 1]] for rows, row in places]
    return common_order(*(words if strict else map(word_hashes, words)))
