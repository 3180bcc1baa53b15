"""Sources of more files than a process may have open."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import pytest
from tests.unit.data.plans import alpaca_rows, plan_for, write_jsonl

from finetune_exe.data import ingest as reading
from finetune_exe.data.ingest import SourceRows, ingest, open_sources
from finetune_exe.data.prepare import prepare
from finetune_exe.data.rows import KeptRow
from finetune_exe.data.sources import find_sources
from finetune_exe.errors import FineTuneError
from finetune_exe.text.tokenizer import ChatTokenizer

SPARE = 24
"""Files that may be opened beside those that are open before a test."""


@contextmanager
def few_files() -> Iterator[None]:
    """Let this process open few more files than it has."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = set(map(int, os.listdir("/proc/self/fd")))
    free = islice((number for number in count() if number not in used), SPARE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(free) + 1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def open_folder(folder: Path) -> tuple[SourceRows, ...]:
    return open_sources(find_sources([str(folder)]), format_name=None, unreadable=[])


def told(opened: tuple[SourceRows, ...]) -> tuple[list[object], list[list[object]]]:
    rows = [(row.position, row.conversation if isinstance(row, KeptRow) else row.fault)
            for row in ingest(opened, deduplicate=True)]  # fmt: skip
    return list(rows), [list(opening.notes) for opening in opened]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write many files, each longer than what is looked at to find its format, some with faults."""
    monkeypatch.setattr(reading, "DETECTION_ROWS", 3)
    (tmp_path / "rows").mkdir()
    rows = alpaca_rows(5 * 60)
    for number in range(60):
        path = write_jsonl(tmp_path / "rows" / f"{number:02}.jsonl", rows[5 * number : 5 * number + 5])
        if number % 4 == 1:
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
        if number % 4 == 2:
            path.write_text("\n" + path.read_text() + "{\n")
    return tmp_path / "rows"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files can be counted on Linux only")
def test_many_files_are_read_with_few_of_them_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with few_files():
        rows, notes = told(open_folder(folder))
    monkeypatch.setattr(reading, "MOST_OPEN", 100)
    assert (rows, notes) == told(open_folder(folder))
    assert sum(map(bool, notes)) == 30
    with few_files(), pytest.raises(FineTuneError, match="Too many open files"):
        open_sources(find_sources([str(folder)]), format_name=None)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files can be counted on Linux only")
def test_many_shards_are_put_together_with_few_of_them_open(
    tmp_path: Path, tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune_exe.data.spool.SHARD_ROWS", 4)
    path = write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(200))
    prepare(plan_for(path), tokenizer, tmp_path / "warm", num_workers=1)
    with few_files():
        manifest = prepare(plan_for(path), tokenizer, tmp_path / "out", num_workers=1)
    assert manifest.kept == 200
