"""A short seeded run of the fuzzer, and proof that it sees a crash."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import fuzz_readers

from finetune_exe.data import json_lines


def test_damaged_files_never_crash_the_readers(tmp_path: Path) -> None:
    endings = fuzz_readers.fuzz(30, 11, [], tmp_path / "found", rounds=150)
    assert not endings["crash"]
    assert endings["read"] > 20
    assert endings.total() - endings["read"] > 5


def test_the_fuzzer_sees_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise IndexError

    monkeypatch.setattr(json_lines, "read_damaged", broken)
    endings = fuzz_readers.fuzz(30, 11, [], tmp_path / "found", rounds=60)
    assert endings["crash"]
    assert any((tmp_path / "found").iterdir())
