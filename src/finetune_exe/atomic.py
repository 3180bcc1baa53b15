"""Write files and folders so that they are there whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from finetune_exe.errors import FineTuneError


@contextmanager
def io_faults(path: Path) -> Iterator[None]:
    """Turn an operating-system refusal while writing `path` into error FT-I01."""
    try:
        yield
    except OSError as fault:
        place = Path(fault.filename or path)
        closed = fault.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        raise FineTuneError(
            "I01",
            what=f"cannot write: {fault.strerror or fault}",
            where=str(place),
            why="the operating system refused it, so nothing was put there",
            fix=f"choose a folder you may write to, or: chmod u+w {place.parent}"
            if closed
            else "free some space or choose a folder you may write to",
        ) from fault


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
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextmanager
def new_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty working folder that becomes `path` when the block ends well, and vanishes when it does not.

    Args:
        path: Where the finished folder shall be.
        overwrite: Replace a folder that is there; otherwise it is an error.

    Raises:
        FineTuneError: O01 where `path` exists; I01 where the operating system refuses.
    """
    if path.exists() and not overwrite:
        raise output_exists(path)
    with io_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        gone: Path | None = None
        try:
            yield work
            work.chmod(0o755)
            folder_to_disk(work)
            gone = _set_aside(path) if path.exists() else None
            work.rename(path)
            to_disk(path.parent)
        except BaseException:
            if gone is not None and not path.exists():
                gone.rename(path)
            shutil.rmtree(work, ignore_errors=True)
            raise
        if gone is not None:
            shutil.rmtree(gone, ignore_errors=True)


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


def _set_aside(path: Path) -> Path:
    """Take away a folder's name at once; removing what is in it may take long."""
    gone = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.gone-"))
    path.rename(gone)
    return gone


def free_bytes(path: Path) -> int:
    """Give the room left for this user on the disk of a path, which need not exist yet."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def output_exists(path: Path) -> FineTuneError:
    """Say that the output is there already and how to go on."""
    return FineTuneError(
        "O01",
        what="the output exists already",
        where=str(path),
        why="overwriting it would destroy an earlier result",
        fix="choose another place, or add --overwrite to replace it",
    )
