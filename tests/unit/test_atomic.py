"""Folders are there whole, on the disk too, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from finetune_exe.atomic import new_folder
from finetune_exe.errors import FineTuneError


def write(target: Path, content: str, *, overwrite: bool = False) -> None:
    with new_folder(target, overwrite=overwrite) as work:
        (work / "inner").mkdir()
        (work / "inner" / "file").write_text(content)


def test_all_of_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, bool]] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{handle}"), (tmp_path / "made").exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    write(tmp_path / "made", "new")
    *parts, (last, named) = synced
    assert [Path(name).name for name, _ in parts[:2]] == ["inner", "file"]
    assert not any(named for _, named in parts)
    assert (last, named) == (str(tmp_path), True)


def test_a_folder_is_replaced_in_one_moment_and_nothing_is_left_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "made", "old")
    with pytest.raises(FineTuneError, match="FT-O01"):
        write(tmp_path / "made", "new")
    seen: list[str] = []
    rename = Path.rename

    def watched(self: Path, target: Path) -> Path:
        if (tmp_path / "made").exists():
            seen.append((tmp_path / "made" / "inner" / "file").read_text())
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watched)
    write(tmp_path / "made", "new", overwrite=True)
    assert seen == ["old"], "it is whole until its name is taken away"
    assert (tmp_path / "made" / "inner" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_block_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    write(tmp_path / "made", "old")
    with pytest.raises(TypeError):
        write(tmp_path / "made", 3, overwrite=True)  # type: ignore[arg-type]
    assert (tmp_path / "made" / "inner" / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
