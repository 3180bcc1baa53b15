"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from finetune_exe.atomic import io_faults, new_file, new_folder, write_file
from finetune_exe.errors import FineTuneError


@pytest.fixture
def careful() -> Iterator[None]:
    """Let nobody else read what is written, as careful users do."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@contextmanager
def failing(path: Path) -> Iterator[None]:
    """Let a block fail, and see that it left nothing but what was there."""
    there = sorted(path.parent.iterdir())
    with pytest.raises(ZeroDivisionError):
        yield
    assert sorted(path.parent.iterdir()) == there


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    write_file(file, b"old")
    with new_folder(folder) as work:
        (work / "a").write_text("old")
    with failing(file), new_file(file) as opened:
        opened.write(b"new")
        raise ZeroDivisionError
    with failing(folder), new_folder(folder, overwrite=True) as work:
        (work / "a").write_text("new")
        raise ZeroDivisionError
    assert (file.read_text(), (folder / "a").read_text()) == ("old", "old")


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    with new_folder(folder) as work:
        (work / "a").write_text("old")
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if target == folder and (path / "b").exists():
            raise OSError(errno.EIO, "the disk is broken")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(FineTuneError, match="the disk is broken"), new_folder(folder, overwrite=True) as work:
        (work / "b").write_text("new")
    assert [file.name for file in folder.iterdir()] == ["a"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    rename, sync = Path.rename, os.fsync

    def note_sync(handle: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        sync(handle)

    def note_rename(path: Path, target: Path) -> Path:
        done.append("renamed")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    with new_folder(tmp_path / "folder") as work:
        (work / "sub").mkdir()
        (work / "a").write_text("a")
        (work / "sub" / "b").write_text("b")
    assert {"a", "b", "sub", work.name} <= set(done[: done.index("renamed")])
    assert done[-1] == tmp_path.name


@pytest.mark.parametrize("kind", ["file", "link", "dangling"])
def test_a_folder_replaces_whatever_has_its_name_and_no_more(kind: str, tmp_path: Path) -> None:
    other, folder = tmp_path / "other", tmp_path / "folder"
    other.mkdir()
    (other / "kept").write_text("kept")
    if kind == "file":
        folder.write_text("old")
    else:
        folder.symlink_to(other if kind == "link" else tmp_path / "nowhere")
    with pytest.raises(FineTuneError, match="exists already"), new_folder(folder):
        pass
    with new_folder(folder, overwrite=True) as work:
        (work / "a").write_text("new")
    assert not folder.is_symlink()
    assert [file.name for file in folder.iterdir()] == ["a"]
    assert (other / "kept").read_text() == "kept"


def test_what_somebody_else_put_there_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "folder"

    def both() -> None:
        with new_folder(folder) as mine, new_folder(folder) as theirs:
            (mine / "a").write_text("mine")
            (theirs / "a").write_text("theirs")

    with pytest.raises(FineTuneError, match="exists already"):
        both()
    assert (folder / "a").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [folder]


def test_what_is_written_is_as_open_as_the_user_lets_files_be(tmp_path: Path, careful: None) -> None:
    write_file(tmp_path / "file", b"")
    with new_folder(tmp_path / "folder"):
        pass
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "folder")]
    assert modes == [0o600, 0o700]


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    write_file(tmp_path / ("\u00e4" * 120), b"x")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"x"]


def test_the_remedy_can_be_typed() -> None:
    with pytest.raises(FineTuneError) as refused, io_faults(Path("x")):
        raise PermissionError(errno.EACCES, "Permission denied", "/my files; rm x/a")
    assert refused.value.fix.endswith("chmod u+w '/my files; rm x'")


def test_a_folder_is_replaced_in_one_moment_and_nothing_is_left_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    with new_folder(made) as work:
        (work / "file").write_text("old")
    seen: list[str] = []
    rename = Path.rename

    def watched(self: Path, target: Path) -> Path:
        if made.exists():
            seen.append((made / "file").read_text())
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watched)
    with new_folder(made, overwrite=True) as work:
        (work / "file").write_text("new")
    assert seen == ["old"], "it is whole until its name is taken away"
    assert (made / "file").read_text() == "new"
    assert list(tmp_path.iterdir()) == [made]
