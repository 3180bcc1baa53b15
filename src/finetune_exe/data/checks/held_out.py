"""Rows that must not be trained on: held-out splits and benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from finetune_exe.data.checks.check import Hit
from finetune_exe.data.checks.facts import Facts
from finetune_exe.data.checks.places import Places
from finetune_exe.data.duplicates.contamination import BenchmarkIndex, ContaminationMode
from finetune_exe.data.duplicates.leaks import find_leaks
from finetune_exe.data.duplicates.rows import RowWords, join_rows, row_text, words_of_rows
from finetune_exe.data.groups import group_hashes, join_groups, shared_column
from finetune_exe.data.ingest import SourceRows, open_sources, read_entry
from finetune_exe.data.sources import find_sources
from finetune_exe.domain.dataset import SplitName
from finetune_exe.domain.task import FormatName
from finetune_exe.text.conversation import Conversation, RowFault

if TYPE_CHECKING:
    from finetune_exe.data.groups import Groups

_BATCH_ROWS = 2000
"""Rows whose words are counted at once, for speed alone."""


def contaminated(train: Facts, benchmarks: Path) -> Iterator[Hit]:
    """Find the rows to train on that hold an item of a benchmark in a folder."""
    for found in BenchmarkIndex.read([benchmarks]).find(train.words):
        yield Hit(int(train.index[found.index]), f"{found.benchmark}, line {found.line} ({_MODES[found.mode]})")


_MODES: dict[ContaminationMode, str] = {
    "exact": "word for word",
    "case_ws": "but for case and marks",
    "wrapped": "inside the row",
    "partial": "a part of it",
    "renamed": "with other names or numbers",
}


class HeldOutRows:
    """The words of the rows of a held-out split, and where they stand.

    Attributes:
        places: Where every record stands.
        words: The words of those that can be read.
        groups: What they have in columns that say which rows belong together.
    """

    def __init__(
        self,
        split: SplitName,
        paths: Sequence[str],
        *,
        format_name: FormatName | None,
        columns: Mapping[str, str] | None,
    ) -> None:
        self.places = Places(split=split)
        self._index: list[int] = []
        opened = open_sources(
            find_sources(paths), format_name=format_name, columns=columns, unreadable=[], preferences=True
        )
        rows = self._conversations(opened)
        batches = iter(lambda: list(islice(rows, _BATCH_ROWS)), [])
        words, groups = [], []
        for batch in batches:
            words.append(words_of_rows([row_text(row) for row in batch]))
            groups.append(group_hashes([row.extra for row in batch]))
        self.words: RowWords = join_rows(words)
        self.groups: Groups = join_groups(groups, [len(part) for part in words])

    def _conversations(self, opened: Sequence[SourceRows]) -> Iterator[Conversation]:
        for opening in opened:
            self.places.begin(opening.source.name)
            for entry in opening.entries:
                index = self.places.add(entry.line)
                read = read_entry(entry, opening)
                if not isinstance(read, RowFault):
                    self._index.append(index)
                    yield read

    def leaks(self, train: Facts) -> dict[str, list[Hit]]:
        """Find the rows of this split that stand among the rows to train on, by the code of the leak."""
        found: dict[str, list[Hit]] = {}
        column = shared_column(train.groups, self.groups)
        leaks = find_leaks(
            train.words,
            self.words,
            train_groups=None if column is None else list(map(str, train.groups[column].tolist())),
            held_out_groups=None if column is None else list(map(str, self.groups[column].tolist())),
        )
        for leak in leaks:
            of_row = int(train.index[leak.of_index])
            hit = Hit(self._index[leak.index], f"the same {column}" if leak.kind == "group" else "", of_row)
            found.setdefault(f"leak_{leak.kind}", []).append(hit)
        return found
