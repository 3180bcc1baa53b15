"""Kept rows on disk, in shards, between reading and encoding: memory holds a few bytes a row, however many there are.

A shard is named by its content, so that the same rows make the same shard in every run.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from finetune_exe.data.rows import KeptRow, LostRow, Repair
from finetune_exe.text.conversation import Conversation

SHARD_ROWS = 2048
SHARD_BYTES = 16 << 20
"""A shard ends with the row that reaches either: as many rows as a tokenizer is given at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledRow:
    """One kept row, as a worker needs it."""

    index: int
    """Number of the row among all rows of all sources."""
    place: str
    group: str
    conversation: Conversation
    repairs: tuple[Repair, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RowShard:
    """Rows that are encoded together."""

    path: Path
    digest: str
    """Hash of the file."""
    first: int
    """Number of its first row among the kept ones."""
    num_rows: int


class Spool:
    """Writes kept rows into shards of a folder.

    Args:
        folder: Where they go; it exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines: list[bytes] = []
        self._bytes = 0
        self._num_rows = 0
        self.shards: list[RowShard] = []

    def add(self, row: KeptRow, *, group: str) -> None:
        """Write one row."""
        position = row.position
        spooled = SpooledRow(
            index=position.index,
            place=position.place,
            group=group,
            conversation=row.conversation,
            repairs=row.repairs,
        )
        line = _encode_line(spooled)
        self._lines.append(line)
        self._bytes += len(line)
        if len(self._lines) >= SHARD_ROWS or self._bytes >= SHARD_BYTES:
            self.close()

    def close(self) -> None:
        """End the shard that is being filled."""
        if not self._lines:
            return
        content = b"\n".join(self._lines) + b"\n"
        digest = hashlib.sha256(content).hexdigest()
        path = self._folder / f"rows-{digest[:32]}.jsonl"
        if not path.exists():
            unfinished = path.with_name(f".{path.name}.{os.getpid()}")
            unfinished.write_bytes(content)
            unfinished.replace(path)
        self.shards.append(RowShard(path=path, digest=digest, first=self._num_rows, num_rows=len(self._lines)))
        self._num_rows += len(self._lines)
        self._lines, self._bytes = [], 0


def read_spooled(path: Path) -> Iterator[SpooledRow]:
    """Read the rows of a shard."""
    import msgspec

    decoder = msgspec.json.Decoder(SpooledRow)
    with path.open("rb") as file:
        for line in file:
            yield decoder.decode(line)


def read_all_spooled(path: Path) -> list[SpooledRow]:
    """Read the rows of a shard at once."""
    import msgspec

    return msgspec.json.Decoder(SpooledRow).decode_lines(path.read_bytes())


def lost_line(row: LostRow) -> dict[str, Any]:
    """Give what `rejected.jsonl` says of a row that was lost, and where it stands."""
    fault, position = row.fault, row.position
    line = {"source": position.place, "code": fault.code, "message": fault.message, "row": row.row}
    return {"index": position.index, "line": line}


class _Numbered(NamedTuple):
    """A line, and the number of its row."""

    number: int
    line: dict[str, Any]


def merge_lines(path: Path, files: Sequence[Path], *, shards: Sequence[Path] = ()) -> None:
    """Bring together lines as `lost_line` makes them, from files and from the files of shards, in order of the rows."""

    def lines(among: Sequence[Path]) -> Iterator[_Numbered]:
        for file in among:
            with file.open("rb") as opened:
                for entry in map(json.loads, opened):
                    yield _Numbered(entry["index"], entry["line"])

    ordered = heapq.merge(*(lines([file]) for file in files), lines(shards), key=lambda entry: entry.number)
    write_lines(path, (entry.line for entry in ordered))


def write_lines(path: Path, lines: Iterable[Any]) -> None:
    """Write JSON lines."""
    with path.open("wb") as file:
        file.writelines(_encode_line(line) + b"\n" for line in lines)


def _encode_line(value: Any) -> bytes:
    """Write a value as JSON; what JSON has no word for becomes its text."""
    import msgspec

    try:
        return msgspec.json.encode(value, enc_hook=str)
    except UnicodeEncodeError:  # half a character, as only lines that are no rows can hold
        return json.dumps(value, default=str).encode()
