"""Find training rows that hold items of benchmarks, which makes their scores worthless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetune_exe.data.duplicates.benchmark_items import BenchmarkItem, read_benchmarks
from finetune_exe.data.duplicates.repeats import first_equal
from finetune_exe.data.duplicates.rows import RowText, RowWords, Stretches, choose_rows, sequence_hashes, words_of_rows
from finetune_exe.data.duplicates.shingles import each_chunk
from finetune_exe.data.duplicates.words import (
    FIRST_CAPITAL,
    Hashes,
    Places,
    WordArray,
    Words32,
    begins,
    hash_words,
    word_hashes,
)

ContaminationMode = Literal["exact", "case_ws", "wrapped", "partial", "renamed"]
FEWEST_WORDS_WHOLE = 5
"""An item of fewer words is asked by chance, even word for word."""
FEWEST_WORDS_INSIDE = 8
"""An item, or a part of one, of fewer words stands in other texts by chance."""
ITEM_INSIDE = 0.95
"""A row that has this much of an item's runs of five words holds the item."""
PROMPT_INSIDE, ITEM_PART = 0.8, 0.35
"""A prompt that has this much of its runs of five words from an item, and this much of the item's, is a part of it."""
SHARED_BY_ITEMS = 5
"""A run of words in more items than this is the benchmark's own wording and says nothing of an item."""
FEWEST_OWN_RUNS = 4
"""Runs of five words that an item must have to itself, or share with few, to be found inside a text."""
LARGEST_NUMBER = 10_000
"""Numbers below are known as such by their hash: years, prices and sums of word problems, which copies change."""
_BLOOM_BITS = 22
"""Bits of a hash that are looked up in a table of 4 MiB first: 17,606 items of nine benchmarks fill 11 % of it."""


@dataclass(frozen=True, slots=True, order=True)
class Contamination:
    """A training row that holds an item of a benchmark, or much of one."""

    index: int
    benchmark: str
    line: int
    """Line of the benchmark's file."""
    mode: ContaminationMode
    """exact; case_ws: in another case, white space or punctuation; wrapped: inside a longer text; partial: a part of
    it; renamed: with other names or numbers."""


class BenchmarkIndex:
    """The items of benchmarks, ready to be looked for among any number of rows.

        index = BenchmarkIndex.read(["benchmarks/"])
        for hit in index.find(rows): ...

    Rows may be given in parts: `find` numbers the rows of what it is given from 0.
    """

    def __init__(self, items: Sequence[BenchmarkItem]) -> None:
        self.items = tuple(items)
        """What is looked for."""
        self._rows = words_of_rows([RowText(item.text, "") for item in self.items])
        made = list(each_chunk(self._rows))
        hashes, owners = _each_once(
            np.concatenate([chunk.hashes for chunk in made]), np.concatenate([chunk.rows for chunk in made])
        )
        run = np.cumsum(begins(hashes)) - 1
        own = np.bincount(run)[run] <= SHARED_BY_ITEMS
        self._hashes, self._owners = hashes[own], owners[own]
        self._wording = np.unique(hashes[~own])
        self._own_runs = np.bincount(self._owners, minlength=len(self.items))
        self._bloom = np.zeros(1 << _BLOOM_BITS, np.bool_)
        self._bloom[self._hashes >> np.uint64(64 - _BLOOM_BITS)] = True
        self._masked = _masked_hashes(self._rows)

    @classmethod
    def read(cls, paths: Sequence[str | Path]) -> BenchmarkIndex:
        """Read the items of files and folders.

        Raises:
            FineTuneError: D07 where there is none; D01 to D03 for a file that cannot be read.
        """
        return cls(read_benchmarks(paths))

    def find(self, rows: RowWords) -> tuple[Contamination, ...]:
        """Find the rows that hold an item; each is named once, with the item it has most of.

        Args:
            rows: Training rows; what is looked at is the prompt, or the whole text where there is none, and for
                items inside a longer text both.
        """
        found: dict[int, tuple[int, ContaminationMode]] = {}
        asked = _asked(rows)
        whole = first_equal(self._rows.prompt_hashes, asked.prompt_hashes)
        for row in np.flatnonzero((whole >= 0) & (asked.lengths >= FEWEST_WORDS_WHOLE)).tolist():
            item = int(whole[row])
            same = bool((asked.words_of(row) == self._rows.words_of(item)).all())
            found[row] = item, "exact" if same else "case_ws"
        masked = first_equal(self._masked, _masked_hashes(asked))
        for row in np.flatnonzero(masked >= 0).tolist():
            found.setdefault(row, (int(masked[row]), "renamed"))
        for row, item, mode in self._inside(rows, asked):
            found.setdefault(row, (item, mode))
        items = self.items
        return tuple(
            Contamination(row, items[item].benchmark, items[item].line, mode)
            for row, (item, mode) in sorted(found.items())
        )

    def _inside(self, rows: RowWords, asked: RowWords) -> list[tuple[int, int, ContaminationMode]]:
        """Find rows that hold a whole item, or whose prompt is a part of one."""
        shared = self._shared(rows)
        shared = shared.where(self._can_be_inside(shared))
        inside = shared.where(shared.runs >= ITEM_INSIDE * self._own_runs[shared.items])
        chosen = np.unique(shared.rows)
        prompts = choose_rows(asked, chosen)
        part = self._shared(prompts)
        part = part.where(
            self._can_be_inside(part)
            & (part.runs >= ITEM_PART * self._own_runs[part.items])
            & (part.runs >= PROMPT_INSIDE * self._runs_but_wording(prompts)[part.rows])
        )
        return [
            *((row, item, "wrapped") for row, item in self._best(inside)),
            *((int(chosen[row]), item, "partial") for row, item in self._best(part)),
        ]

    def _runs_but_wording(self, rows: RowWords) -> Places:
        """Count each row's runs of words, those of the benchmarks' own wording left out."""
        counts = np.zeros(len(rows), np.int64)
        for chunk in each_chunk(rows):
            counts += np.bincount(chunk.rows[~np.isin(chunk.hashes, self._wording)], minlength=len(rows))
        return counts

    def _can_be_inside(self, shared: _SharedRuns) -> NDArray[np.bool_]:
        """Leave out items too short to be told from common speech, and chance agreements."""
        own, words = self._own_runs[shared.items], self._rows.lengths[shared.items]
        enough: NDArray[np.bool_] = (own >= FEWEST_OWN_RUNS) & (shared.runs >= FEWEST_OWN_RUNS)
        return enough & (words >= FEWEST_WORDS_INSIDE)

    def _best(self, shared: _SharedRuns) -> list[tuple[int, int]]:
        """Order pairs of row and item by the share of the item that the row has."""
        order = np.lexsort((shared.items, -shared.runs / self._own_runs[shared.items], shared.rows))
        return list(zip(shared.rows[order].tolist(), shared.items[order].tolist(), strict=True))

    def _shared(self, rows: RowWords) -> _SharedRuns:
        """Count the distinct runs of words that each row shares with each item."""
        found = [np.zeros(0, np.int64)]
        for chunk in each_chunk(rows):
            likely = self._bloom[chunk.hashes >> np.uint64(64 - _BLOOM_BITS)]
            hashes, of_row = _each_once(chunk.hashes[likely], chunk.rows[likely])
            begin = np.searchsorted(self._hashes, hashes, "left")
            count = np.searchsorted(self._hashes, hashes, "right") - begin
            within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            owner = self._owners[np.repeat(begin, count) + within]
            found.append(np.repeat(of_row, count) * len(self.items) + owner)
        pairs, runs = np.unique(np.concatenate(found), return_counts=True)
        return _SharedRuns(*np.divmod(pairs, len(self.items)), runs)


class _SharedRuns(NamedTuple):
    """Runs of five words that rows share with items."""

    rows: Places
    items: Places
    runs: Places

    def where(self, chosen: NDArray[np.bool_]) -> _SharedRuns:
        """Keep some."""
        return _SharedRuns(self.rows[chosen], self.items[chosen], self.runs[chosen])


def _each_once(hashes: Hashes, owners: Places) -> tuple[Hashes, Places]:
    """Sort runs of words by hash and owner, and keep one of each."""
    order = np.lexsort((owners, hashes))
    hashes, owners = hashes[order], owners[order]
    once = begins(hashes) | begins(owners)
    return hashes[once], owners[once]


def _asked(rows: RowWords) -> RowWords:
    """Take of each row the prompt, or the whole text where there is none."""
    prompted = rows.answers > rows.starts[:-1]
    after = np.where(prompted, rows.answers, rows.starts[1:])
    taken = Stretches(rows.words, rows.starts[:-1], after).copy()
    hashes = np.where(prompted, rows.prompt_hashes, rows.answer_hashes)
    return RowWords(
        words=taken.words, starts=taken.starts, answers=taken.starts[1:], exact=rows.exact,
        prompt_hashes=hashes, answer_hashes=np.zeros(len(rows), np.uint64),
    )  # fmt: skip


def _masked_hashes(rows: RowWords) -> Hashes:
    """Hash each row with its names and numbers left open; 0 where there are none, or too few other words."""
    hashed = word_hashes(rows.words)
    names = (rows.words >> np.uint32(FIRST_CAPITAL) & np.uint32(1)).astype(np.bool_) | _are_numbers(hashed)
    of_row = np.repeat(np.arange(len(rows)), rows.lengths)
    again = names & ~begins(names) & ~begins(of_row)
    counts = np.bincount(of_row[~again], minlength=len(rows))
    open_words = np.where(names, np.uint32(0), hashed)[~again]
    hashes = sequence_hashes(WordArray(open_words, np.concatenate(([0], np.cumsum(counts)))))
    others = np.bincount(of_row[~names], minlength=len(rows))
    return np.where((others >= FEWEST_WORDS_INSIDE) & (others < rows.lengths), hashes, np.uint64(0))


def _are_numbers(hashed: Words32) -> NDArray[np.bool_]:
    numbers, likely = _numbers()
    found: NDArray[np.bool_] = likely[hashed & np.uint32(len(likely) - 1)]
    found[found] = np.isin(hashed[found], numbers)
    return found


@lru_cache(maxsize=1)
def _numbers() -> tuple[Words32, NDArray[np.bool_]]:
    """The hashes of the words that are numbers, and a table of their lowest bits."""
    numbers = (f"{number:0{width}}" for width in (1, 2, 3) for number in range(LARGEST_NUMBER))
    hashes = np.unique(word_hashes(hash_words([" ".join(numbers)]).words))
    likely = np.zeros(1 << 20, np.bool_)
    likely[hashes & np.uint32(len(likely) - 1)] = True
    return hashes, likely
