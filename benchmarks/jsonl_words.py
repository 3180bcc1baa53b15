"""Hash the words of JSON lines with known columns of text, without making rows of them: the quick way to duplicates."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from finetune_exe.data.duplicates.rows import RowText, RowWords, join_rows, words_of_rows
from finetune_exe.data.processes import start_method

BLOCK_BYTES = 16 << 20
"""Files are read in blocks of about so many bytes, each by one process."""


class TextColumns(NamedTuple):
    """The columns of a row's texts; one that is absent or null is empty."""

    prompt: tuple[str, ...]
    answer: tuple[str, ...]


class _Block(NamedTuple):
    path: Path
    start: int
    end: int


def jsonl_words(paths: Sequence[Path], columns: TextColumns, *, workers: int = 1) -> RowWords:
    """Hash the words of every line of JSONL files, in order.

    Args:
        paths: Files of one JSON object a line; blank lines are passed over.
        columns: Where the texts are. Columns are joined by line ends.
        workers: Processes to share the work.

    Raises:
        msgspec.DecodeError: A line is no object, or a text is none.
    """
    blocks = [block for path in paths for block in _blocks(path)]
    read = partial(_block_words, columns=columns)
    if workers == 1 or len(blocks) == 1:
        return join_rows(map(read, blocks))
    with ProcessPoolExecutor(min(workers, len(blocks)), mp_context=get_context(start_method())) as pool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of numpy, idle: see `start_method`
            parts = pool.map(read, blocks)
        return join_rows(parts)


def _blocks(path: Path) -> Iterator[_Block]:
    """Cut a file at line ends."""
    start, size = 0, os.path.getsize(path)
    with path.open("rb") as file:
        while start < size:
            file.seek(min(size, start + BLOCK_BYTES))
            file.readline()
            yield _Block(path, start, file.tell())
            start = file.tell()


def _block_words(block: _Block, columns: TextColumns) -> RowWords:
    import msgspec

    names = tuple(dict.fromkeys((*columns.prompt, *columns.answer)))
    fields = [(f"column_{number}", str | None, None) for number in range(len(names))]
    renamed = dict(zip((field[0] for field in fields), names, strict=True))
    decoder = msgspec.json.Decoder(msgspec.defstruct("Row", fields, rename=renamed, gc=False))
    with block.path.open("rb") as file:
        file.seek(block.start)
        lines = file.read(block.end - block.start)
    prompt, answer = ([f"column_{names.index(name)}" for name in side] for side in columns)
    rows = [
        RowText(
            "\n".join([getattr(row, name) or "" for name in prompt]),
            "\n".join([getattr(row, name) or "" for name in answer]),
        )
        for row in decoder.decode_lines(lines)
    ]
    return join_rows(words_of_rows(rows[first : first + 2000]) for first in range(0, len(rows), 2000))
