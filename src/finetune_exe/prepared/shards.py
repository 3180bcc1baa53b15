"""Encoded rows on disk, a folder for each shard, until the splits are put together from them.

A shard's folder bears the hash of everything its content follows from, and appears whole or not at all: a run that was
killed finds the shards that are done and makes only the others.

- `tokens.npy` int32, `learned.npy` bool: the sequences of all kept rows end to end;
- `lengths.npy` int64: tokens of each sequence; `owners.npy` int32: the kept row it is of, numbered in the shard;
- `kept.npy` int32: for each kept row, its number among the rows that went in;
- `rows.jsonl`, `lost.jsonl`, `altered.jsonl`: a line for each kept row, each lost one, and each kept one that was
  changed;
- `summary.json`: counts, and the hash of each other file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUMMARY = "summary.json"
ARRAY_TYPES = {"tokens": "int32", "learned": "bool", "lengths": "int64", "owners": "int32", "kept": "int32"}
ROWS, LOST, ALTERED = "rows.jsonl", "lost.jsonl", "altered.jsonl"


def write_shard(
    target: Path,
    *,
    arrays: dict[str, Any],
    rows: Sequence[bytes],
    lost: Sequence[bytes],
    altered: Sequence[bytes],
    summary: dict[str, Any],
) -> None:
    """Write a shard so that it is there whole or not at all.

    Args:
        target: Its folder.
        arrays: Values of the arrays named in `ARRAY_TYPES`.
        rows: JSON of each kept row.
        lost: JSON of each lost row.
        altered: JSON of each kept row that was changed, before and after.
        summary: What the driver must know of the shard.
    """
    import numpy as np

    work = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name, dtype in ARRAY_TYPES.items():
        np.save(work / f"{name}.npy", np.asarray(arrays[name], dtype=dtype), allow_pickle=False)
    for name, lines in ((ROWS, rows), (LOST, lost), (ALTERED, altered)):
        (work / name).write_bytes(b"".join(line + b"\n" for line in lines))
    hashes = {file.name: _hash(file) for file in sorted(work.iterdir())}
    (work / SUMMARY).write_text(json.dumps({**summary, "files": hashes}, sort_keys=True))
    try:
        work.rename(target)
    except OSError:  # another worker was faster; what it wrote is the same, unless it is damaged
        if read_summary(target) is None:
            shutil.rmtree(target)
            work.rename(target)
        else:
            shutil.rmtree(work)


def read_summary(target: Path) -> dict[str, Any] | None:
    """Give a finished shard's summary; None where the shard is not there, not whole or not what it was."""
    try:
        summary: dict[str, Any] = json.loads((target / SUMMARY).read_bytes())
        whole = all(_hash(target / name) == digest for name, digest in summary.pop("files").items())
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    return summary if whole else None


def shard_array(target: Path, name: str) -> NDArray[np.generic]:
    """Map one array of a shard into memory."""
    import numpy as np

    array: NDArray[np.generic] = np.load(target / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return array


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
