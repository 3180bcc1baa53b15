"""Write files and folders so that they are there whole or not at all, after a power cut too."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from finetune_exe.errors import FineTuneError, typed

STANDARD_OUTPUT = Path("standard output")
"""What a message calls it."""
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
_LONGEST_NAME = 200
"""Bytes of a name that a working name takes over; file systems take 255."""


@contextmanager
def io_faults(path: Path) -> Iterator[None]:
    """Turn an operating-system refusal while writing `path` into error FT-I01."""
    try:
        yield
    except OSError as fault:
        raise cannot_write(fault, path) from fault


def cannot_write(fault: OSError, path: Path) -> FineTuneError:
    """Say that the operating system refuses to write `path`, and at which folder on the way to it where it is one."""
    named = Path(os.fsdecode(fault.filename)) if isinstance(fault.filename, str | bytes) and fault.filename else path
    place = path if named.parent == path.parent else named  # of a working name nobody knows anything
    return FineTuneError(
        "I01",
        what=f"cannot write: {fault.strerror or fault}",
        where=f"{path} (at {place})" if place in path.parents else str(place),
        why="the operating system refused it, so nothing was put there",
        fix=f"choose a folder you may write to, or: {typed('chmod', 'u+w', place.parent)}"
        if fault.errno in _NOT_ALLOWED
        else "free some space, or choose another folder"
        if fault.errno in (errno.ENOSPC, errno.EDQUOT)
        else "allow more open files: ulimit -n 4096"
        if fault.errno in (errno.EMFILE, errno.ENFILE)
        else "choose another place, in a folder you may write to",
    )


def write_file(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: readers see the old file or the new one, never a part.

    Raises:
        FineTuneError: I01 where the operating system refuses.
    """
    with new_file(path) as file:
        file.write(content)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Give a working file that becomes `path` when the block ends well, and vanishes when it does not.

    Raises:
        FineTuneError: I01 where the operating system refuses.
    """
    with io_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        work = _beside(path)
        try:
            with work.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            work.replace(path)
            to_disk(path.parent)
        except BaseException:
            work.unlink(missing_ok=True)
            raise


@contextmanager
def new_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty working folder that becomes `path` when the block ends well, and vanishes when it does not.

    Args:
        path: Where the finished folder shall be.
        overwrite: Replace what is there; otherwise it is an error.

    Raises:
        FineTuneError: O01 where `path` exists; I01 where the operating system refuses.
    """
    require_new(path, overwrite=overwrite)
    with io_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        work = _beside(path)
        work.mkdir()
        try:
            yield work
            require_new(path, overwrite=overwrite)  # somebody else may have been faster
            take_place(work, path)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise


def take_place(work: Path, path: Path) -> None:
    """Let a finished working folder become `path`; what is there steps aside first, and goes when that went well.

    Raises:
        OSError: The operating system refuses; then `path` is what it was.
    """
    folder_to_disk(work)
    aside = _beside(path) if os.path.lexists(path) else None
    if aside is not None:
        path.rename(aside)
    try:
        work.rename(path)
    except BaseException:
        if aside is not None:
            aside.rename(path)
        raise
    to_disk(path.parent)
    if aside is not None and aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside, ignore_errors=True)
    elif aside is not None:
        aside.unlink()


def folder_to_disk(folder: Path, *, last: str = "") -> None:
    """Wait until all that lies below a folder is on the disk, the file of one name after all others."""
    for path in sorted(folder.rglob("*"), key=lambda path: (path.name == last, str(path))):
        to_disk(path)
    to_disk(folder)


def to_disk(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as fault:
        if fault.errno != errno.EINVAL:  # a file system that keeps no folder waiting
            raise
    finally:
        os.close(handle)


def free_bytes(path: Path) -> int:
    """Give the room left for this user on the disk of a path, which need not exist yet."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def require_new(path: Path, *, overwrite: bool = False) -> None:
    """Refuse to write over what is there, be it a link that leads nowhere, unless that is wished.

    Raises:
        FineTuneError: O01 where something is there.
    """
    if (path.exists() or path.is_symlink()) and not overwrite:
        raise FineTuneError(
            "O01",
            what="the output exists already",
            where=str(path),
            why="overwriting it would destroy an earlier result",
            fix="choose another place, or add --overwrite to replace it",
        )


def _beside(path: Path) -> Path:
    """Name a place beside a path that nobody else uses; the user's own settings say who may read what is put there."""
    name = os.fsdecode(os.fsencode(path.name)[:_LONGEST_NAME])
    return path.with_name(f".{name}.{secrets.token_hex(4)}")
