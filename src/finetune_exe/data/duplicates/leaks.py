"""Find rows of validation or test that were trained on, in whole or in part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from finetune_exe.data.duplicates.minhash import likely_pairs
from finetune_exe.data.duplicates.near import NEAR, edited_copies, in_order, parts_alike
from finetune_exe.data.duplicates.pairs import RowPairs
from finetune_exe.data.duplicates.rare import rare_pairs
from finetune_exe.data.duplicates.repeats import MANY_ANSWERS, MANY_ANSWERS_SHARE, first_equal, repeated_in_form
from finetune_exe.data.duplicates.rows import RowWords, choose_rows, join_rows
from finetune_exe.data.duplicates.shingles import shared_shingles
from finetune_exe.data.duplicates.words import Hashes, Places

LeakKind = Literal["exact", "normalised", "near_light", "near_heavy", "prompt_only", "output_only", "group"]
TOUCHED_LIGHTLY = 0.945
"""A copy with this much of its words unchanged, case and marks included, was touched lightly: all but one in 18."""
OWN_ANSWER_WORDS = 8
"""An answer of fewer words, a label or a number, is given to many questions and betrays none."""
OWN_ANSWER_ROWS = 3
"""So is an answer that more training rows give."""
OWN_PROMPT_WORDS = 2
"""A shorter prompt, such as a greeting, is everybody's."""
EDITED_SHARE = 0.3
"""Share of rare runs of words that makes a pair worth looking at."""


@dataclass(frozen=True, slots=True, order=True)
class Leak:
    """A held-out row that training has seen."""

    index: int
    """Row of validation or test."""
    of_index: int
    """Row of training."""
    kind: LeakKind
    """What of it was seen; the code of the finding is "leak_" and this."""


def find_leaks(
    train: RowWords,
    held_out: RowWords,
    *,
    train_groups: Sequence[str | None] | None = None,
    held_out_groups: Sequence[str | None] | None = None,
) -> tuple[Leak, ...]:
    """Find the held-out rows that training has seen; each is named once, with the worst that is true of it.

    Args:
        train: Rows to train on.
        held_out: Rows of validation or test.
        train_groups: The group of each row to train on: its conversation, document or user; None for none.
        held_out_groups: The same for the held-out rows.
    """
    found: dict[int, Leak] = {}

    def add(index: Places, of_index: Places, kinds: Sequence[LeakKind]) -> None:
        for row, of, kind in zip(index.tolist(), of_index.tolist(), kinds, strict=True):
            if of >= 0:
                found.setdefault(row, Leak(row, of, kind))

    every = np.arange(len(held_out))
    add(every, first_equal(train.exact, held_out.exact), ["exact"] * len(held_out))
    same = first_equal(train.row_hashes, held_out.row_hashes)
    add(every, same, [_form(train, int(of), held_out, row) if of >= 0 else "exact" for row, of in enumerate(same)])
    unseen = np.array([row for row in range(len(held_out)) if row not in found], np.int64)
    rest = choose_rows(held_out, unseen)
    pairs = _near(train, rest)
    add(unseen[pairs.right], pairs.left, [_touched(train, rest, *pair) for pair in zip(*pairs, strict=True)])
    add(unseen, _same_prompt(train, rest), ["prompt_only"] * len(unseen))
    add(unseen, _same_answer(train, rest), ["output_only"] * len(unseen))
    if train_groups is not None and held_out_groups is not None:
        first: dict[str, int] = {}
        for row, group in enumerate(train_groups):
            if group is not None:
                first.setdefault(group, row)
        of_group = [-1 if group is None else first.get(group, -1) for group in held_out_groups]
        add(every, np.array(of_group, np.int64), ["group"] * len(held_out))
    return tuple(found[row] for row in sorted(found))


def _form(train: RowWords, of: int, held_out: RowWords, row: int) -> LeakKind:
    return "normalised" if repeated_in_form(held_out, row, train, of) else _touched(train, held_out, of, row)


def _touched(train: RowWords, held_out: RowWords, of: int, row: int) -> LeakKind:
    light = in_order(train, of, held_out, row, strict=True) >= TOUCHED_LIGHTLY
    return "near_light" if light else "near_heavy"


def _near(train: RowWords, held_out: RowWords) -> RowPairs:
    """Pair rows of training with near duplicates and edited copies among the held-out ones."""
    number = len(train)
    joined = join_rows([train, held_out])
    candidates = likely_pairs(joined, NEAR, across=number)
    pairs = RowPairs(candidates.left, candidates.right - number)
    near = shared_shingles(train, held_out, pairs).jaccard() >= NEAR
    near[near] = parts_alike(train, held_out, pairs.where(near))
    rare = rare_pairs(joined, across=number)
    looked_at = rare.pairs.where(rare.of_longer >= EDITED_SHARE)
    others = RowPairs(looked_at.left, looked_at.right - number)
    found = pairs.where(near), others.where(edited_copies(train, held_out, others))
    return RowPairs(*(np.concatenate(sides) for sides in zip(*found, strict=True)))


def _same_prompt(train: RowWords, held_out: RowWords) -> Places:
    """Where the prompt of each held-out row stands in training; not for one that many training rows share."""
    known, sought = train.prompt_hashes, held_out.prompt_hashes
    first = first_equal(known, sought)
    shared = _occurrences(known, sought) > max(MANY_ANSWERS, MANY_ANSWERS_SHARE * len(train))
    return np.where(shared | (held_out.answers - held_out.starts[:-1] < OWN_PROMPT_WORDS), -1, first)


def _same_answer(train: RowWords, held_out: RowWords) -> Places:
    """Where the answer of each held-out row stands in training, if it is one row's own."""
    known, sought = train.answer_hashes, held_out.answer_hashes
    common = _occurrences(known, sought) > OWN_ANSWER_ROWS
    short = held_out.starts[1:] - held_out.answers < OWN_ANSWER_WORDS
    return np.where(common | short, -1, first_equal(known, sought))


def _occurrences(known: Hashes, sought: Hashes) -> NDArray[np.int64]:
    ordered = np.sort(known)
    return np.searchsorted(ordered, sought, "right") - np.searchsorted(ordered, sought, "left")
