"""One process at a time writes into a run's folder."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune_exe.atomic import io_faults
from finetune_exe.errors import FineTuneError

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@contextmanager
def locked(run: Path, note: Callable[[str], None]) -> Iterator[None]:
    """Hold a run's lock while the block runs: the file `.NAME.lock` beside its folder, locked by the system.

    The system gives the lock back when its holder ends, however it ends; what the file says of the holder serves the
    messages alone.

    Args:
        run: The run's folder, which need not exist yet.
        note: Told where a lock was left behind.

    Raises:
        FineTuneError: O02 where another process holds it; I01 where the folder around the run cannot be written.
    """
    if sys.platform == "win32":
        yield
        return
    path = run.with_name(f".{run.name}.lock")
    with io_faults(run):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _acquire(path, run)
        earlier = _holder(handle)
        if earlier:
            note(f"{earlier} left its lock on this run behind; it is taken over")
        mine = {"pid": os.getpid(), "host": platform.node(), "boot": _boot_id()}
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(mine).encode(), 0)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def training_process(run: Path) -> int | None:
    """Give the process of this machine that holds a run's lock; None where none does."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        handle = os.open(run.with_name(f".{run.name}.lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        content = json.loads(os.pread(handle, 4096, 0))
        process = int(content["pid"])
        if content["boot"] != _boot_id() or content["host"] != platform.node():
            return None
        os.kill(process, 0)  # a lock that was left behind is not tried: trying it would hold it for a moment
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return process
    except (OSError, ValueError, LookupError, TypeError):
        return None
    finally:
        os.close(handle)
    return None


def _acquire(path: Path, run: Path) -> int:
    """Open and lock the file, again where another process removed it in between."""
    import fcntl

    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, handle):
                return handle
        except BlockingIOError:
            holder = _holder(handle) or "another process"
            os.close(handle)
            raise FineTuneError(
                "O02",
                what=f"{holder} is training into this run folder",
                where=str(run),
                why="two runs in one folder would destroy each other's checkpoints",
                fix="wait for it or stop it; or choose another folder with --run",
            ) from None
        os.close(handle)


def _is_at(path: Path, handle: int) -> bool:
    """Say whether an open file still has its name, which its last holder may have taken away meanwhile."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _holder(handle: int) -> str | None:
    """Say who wrote the lock, if anybody did and it can be read."""
    try:
        content = json.loads(os.pread(handle, 4096, 0))
        name = f"process {content['pid']} on {content['host']}"
        return name if content["boot"] == _boot_id() else f"{name}, before that machine was started anew,"
    except (ValueError, KeyError, TypeError):
        return None


def _boot_id() -> str:
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""
