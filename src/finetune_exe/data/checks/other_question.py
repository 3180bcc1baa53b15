"""Rows that ask another question about the same page: much the same to the word, and yet no copies."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from finetune_exe.data.duplicates.words import MARK_FOLLOWS, word_hashes

if TYPE_CHECKING:
    from finetune_exe.data.duplicates.rows import RowWords
    from finetune_exe.data.duplicates.words import Words32

_PAGE_WORDS, _PAGE_SHARE = 30, 0.6
"""What two prompts share at one end must be so long, and so much of both, to be the page that is asked about."""
_MIN_QUESTION = 3
"""Words of a question: fewer are a number or a name that was changed."""
_SAME_QUESTION = 0.5
"""Questions with so many words in common are one, asked in other words."""


def asks_otherwise(rows: RowWords, one: int, other: int) -> bool:
    """Whether two rows differ in one sentence of their prompts, behind or before a page that both show.

    A copy that somebody edited differs here and there, or in words of a sentence; a question differs as a whole.
    """
    import numpy as np

    first, second = (rows.words[rows.starts[row] : rows.answers[row]] for row in (one, other))
    shorter = min(len(first), len(second))
    if shorter < _PAGE_WORDS:
        return False
    hashes, others = word_hashes(first), word_hashes(second)
    behind = _common(hashes, others)
    before = _common(hashes[::-1], others[::-1])
    page = max(behind, before)
    if page < _PAGE_WORDS or page < _PAGE_SHARE * max(len(first), len(second)) or behind + before >= shorter:
        return False
    if behind >= before:
        marks = np.flatnonzero(first[:behind] >> np.uint32(MARK_FOLLOWS))
        start = int(marks[-1]) + 1 if len(marks) else behind
        asked = hashes[start:], others[start:]
    else:
        asked = (_first_sentence(first, before), _first_sentence(second, before))
    questions = [Counter(question.tolist()) for question in asked]
    sizes = [sum(question.values()) for question in questions]
    shared = sum((questions[0] & questions[1]).values())
    return min(sizes) >= _MIN_QUESTION and 2 * shared < _SAME_QUESTION * sum(sizes)


def _common(one: Words32, other: Words32) -> int:
    """Count the words at the beginning that are the same."""
    import numpy as np

    length = min(len(one), len(other))
    unlike = np.flatnonzero(one[:length] != other[:length])
    return int(unlike[0]) if len(unlike) else length


def _first_sentence(words: Words32, shared: int) -> Words32:
    """Give what stands before the shared end, up to the end of its sentence."""
    import numpy as np

    begun = len(words) - shared
    marks = np.flatnonzero(words[max(0, begun - 1) :] >> np.uint32(MARK_FOLLOWS))
    return word_hashes(words[: max(0, begun - 1) + int(marks[0]) + 1 if len(marks) else begun])
