"""A failing disk is tried again, then named."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from tests.unit.prepared.splits import PreparedRow, write_split

from finetune_exe.errors import IO, FineTuneError
from finetune_exe.prepared.reading import TRIES, read_by_calls
from finetune_exe.prepared.store import SequenceView, SplitData, StoredRow


@pytest.fixture
def split(tmp_path: Path) -> SplitData:
    rows = [
        PreparedRow(
            stored=StoredRow(source=f"a:{number}", group="", conversation={}),
            sequences=[SequenceView(np.arange(number, 2 * number + 1, dtype=np.int32), np.arange(number + 1) % 2 == 0)],
        )
        for number in range(1, 20)
    ]
    write_split(tmp_path, "train", rows)
    arrays = {kind: np.load(tmp_path / f"train.{kind}.npy", mmap_mode="r")
              for kind in ("tokens", "learned", "offsets", "rows")}  # fmt: skip
    return SplitData(**arrays, rows_path=tmp_path / "train.rows.jsonl")


def test_it_reads_what_is_mapped(split: SplitData) -> None:
    read = read_by_calls(split)
    assert len(read) == len(split)
    assert read.lengths == split.lengths
    for index in range(len(split)):
        for mine, mapped in zip(read.sequence(index), split.sequence(index), strict=True):
            assert mine.dtype == mapped.dtype
            assert np.array_equal(mine, mapped)


def failing(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    pread, left = os.pread, [times]

    def broken(handle: int, size: int, offset: int) -> bytes:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(handle, size, offset)

    monkeypatch.setattr(os, "pread", broken)


def test_an_error_that_goes_away_is_no_fault(split: SplitData, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    read = read_by_calls(split, sleep=pauses.append)
    failing(monkeypatch, TRIES - 1)
    assert np.array_equal(read.sequence(3).tokens, split.sequence(3).tokens)
    assert len(pauses) == TRIES - 1


def test_an_error_that_stays_names_file_and_sequence(split: SplitData, monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_by_calls(split, sleep=lambda _: None)
    failing(monkeypatch, TRIES)
    with pytest.raises(FineTuneError, match=r"error\[FT-I13\].*Input/output error") as refused:
        read.sequence(3)
    assert refused.value.where.endswith("train.tokens.npy, sequence 3")
    assert refused.value.exit_status == IO
    failing(monkeypatch, TRIES)
    with pytest.raises(FineTuneError, match="FT-I13") as refused:
        read.tokens[0:9]
    assert refused.value.where.endswith("sequences 0 to 2")


def test_a_file_that_got_shorter_is_an_error_and_no_crash(split: SplitData) -> None:
    read = read_by_calls(split, sleep=lambda _: None)
    path = split.rows_path.with_name("train.tokens.npy")
    os.truncate(path, path.stat().st_size - 4)
    with pytest.raises(FineTuneError, match=r"ends 4 bytes too early"):
        read.sequence(len(read) - 1)
