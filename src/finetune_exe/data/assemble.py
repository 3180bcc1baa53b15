"""Put the splits together from encoded shards, one shard at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune_exe.domain.dataset import SPLITS, Split, SplitName
from finetune_exe.prepared.shards import ROWS, shard_array
from finetune_exe.prepared.store import SplitWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """The splits, and what was seen while they were written."""

    splits: dict[SplitName, Split]
    lengths: NDArray[np.int64]
    """Tokens of each sequence, in order of the shards."""
    learned: NDArray[np.int64]
    """Learned tokens of each."""
    used: NDArray[np.bool_]
    """For each id, whether it occurs."""


def assemble(
    work: Path,
    shards: Sequence[Path],
    sides: NDArray[np.int8],
    groups: Sequence[str],
    *,
    vocabulary_size: int,
    written: Callable[[int], object],
) -> Assembled:
    """Write the arrays and rows of every split.

    Args:
        work: An unfinished folder.
        shards: Folders of the shards, in the order of the rows.
        sides: For each kept row, its split as a position in `SPLITS`.
        groups: For each kept row, its group.
        vocabulary_size: Ids that may occur.
        written: Told the number of rows done.
    """
    parts = _parts(shards, sides)
    used = np.zeros(vocabulary_size, dtype=np.bool_)
    all_learned = []
    with ExitStack() as stack:
        writers = [_writer(work, number, parts, stack) for number in range(len(SPLITS))]
        for part in parts:
            tokens, learned = shard_array(part.shard, "tokens"), shard_array(part.shard, "learned")
            used[np.unique(tokens)] = True
            ends = np.cumsum(part.lengths)
            sums = np.concatenate([[0], np.cumsum(learned, dtype=np.int64)])
            all_learned.append(sums[ends] - sums[ends - part.lengths])
            lines = (part.shard / ROWS).read_bytes().splitlines(keepends=True)
            for number, writer in enumerate(writers):
                _add(writer, part, part.sides == number, tokens, learned, lines)
            written(len(part.sides))
        splits = {}
        for number, name in enumerate(SPLITS):
            own = {group for group, side in zip(groups, sides.tolist(), strict=True) if side == number}
            splits[name] = writers[number].finish(num_groups=len(own))
    return Assembled(
        splits=splits,
        lengths=np.concatenate([part.lengths for part in parts]),
        learned=np.concatenate(all_learned),
        used=used,
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """One shard, and which split each of its rows goes to."""

    shard: Path
    lengths: NDArray[Any]
    owners: NDArray[Any]
    sides: NDArray[Any]


def _parts(shards: Sequence[Path], sides: NDArray[np.int8]) -> list[_Part]:
    parts, first = [], 0
    for shard in shards:
        num_rows = len(shard_array(shard, "kept"))
        own = sides[first : first + num_rows]
        lengths, owners = (np.array(shard_array(shard, name)) for name in ("lengths", "owners"))  # no file stays open
        parts.append(_Part(shard, lengths, owners, own))
        first += num_rows
    return parts


def _writer(work: Path, number: int, parts: Sequence[_Part], stack: ExitStack) -> SplitWriter:
    num_tokens = num_sequences = 0
    for part in parts:
        chosen = part.sides[part.owners] == number
        num_sequences += int(chosen.sum())
        num_tokens += int(part.lengths[chosen].sum())
    writer = SplitWriter(work, SPLITS[number], num_tokens=num_tokens, num_sequences=num_sequences)
    stack.callback(writer.close)
    return writer


def _add(
    writer: SplitWriter,
    part: _Part,
    rows: NDArray[np.bool_],
    tokens: NDArray[Any],
    learned: NDArray[Any],
    lines: Sequence[bytes],
) -> None:
    """Give a writer the rows that are its."""
    chosen = rows[part.owners]
    inside = np.repeat(chosen, part.lengths)
    new_numbers = np.cumsum(rows) - 1
    writer.add(
        tokens=tokens[inside],
        learned=learned[inside],
        lengths=part.lengths[chosen],
        owners=new_numbers[part.owners[chosen]],
        rows=[line for line, mine in zip(lines, rows.tolist(), strict=True) if mine],
    )
