"""Notice a process that hangs: each says where it waits for the others, and who waits too long names who is missing.

A process that is not at a meeting also leaves word of what it computes, so that the others can say where it hangs: it
cannot be asked any more then, and may be on another machine.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from finetune_exe.errors import RESUMABLE, FineTuneError

LOOK_SECONDS = 0.5
LINGER_SECONDS = 3.0
"""The first process may keep the store: it stays until the others have read who is missing."""
_FRAMES = 12
_STOPPED = "stopped by a signal"


class RankWatch:
    """Keeps count of the meetings of all processes, and ends this one where another never comes to one.

    Args:
        store: Where every process writes its own count and reads the others'.
        index: Number of this process.
        count: How many there are.
        timeout: Seconds to wait for the others.
        leave: Called with the message when the time is over; the usual one ends the process.
    """

    def __init__(
        self, store: Any, *, index: int, count: int, timeout: float, leave: Callable[[str], None] | None = None
    ) -> None:
        self.store = store
        self._index, self._count, self._timeout = index, count, timeout
        self._leave = leave or partial(_end_process, linger_seconds=0.0 if index else LINGER_SECONDS)
        self._meetings = 0
        self._since: float | None = None
        self._watched = threading.get_ident()
        self._told = ""
        self.store.set(f"who/{index}", f"{os.getpid()} {socket.gethostname()}")
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="rank-watch", daemon=True)
        self._thread.start()

    @contextmanager
    def waiting(self, label: str) -> Iterator[None]:
        """Say where this process is while it waits for the others in the block."""
        self._meetings += 1
        self.store.set(f"at/{self._index}", f"{self._meetings} {label}")
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None

    def close(self) -> None:
        """Watch no longer."""
        self._closed.set()
        self._thread.join()

    def missing(self) -> list[str]:
        """Name the processes that have not come to the meeting this one is at, and where each was last."""
        return [f"process {other}, last seen at {where}" for other, where in self._missing().items()]

    def _missing(self) -> dict[int, str]:
        found = {}
        for other in range(self._count):
            seen = self._note(f"at/{other}")
            meetings, _, label = seen.partition(" ")
            if other != self._index and int(meetings or 0) < self._meetings:
                found[other] = f"meeting {meetings} ({label})" if seen else "no meeting"
        return found

    def places(self) -> list[str]:
        """Say of each missing process which it is on its machine, and what it was computing when it last could tell."""
        found = []
        for other in self._missing():
            pid, _, host = self._note(f"who/{other}").partition(" ")
            if not pid:
                found.append(f"process {other}, which was never there")
                continue
            state = self._state(other)
            doing = self._note(f"doing/{other}")
            place = f"in {doing}" if doing else "which left no word of what it computes"
            found.append(f"process {other} (pid {pid} on {host}{', ' + state if state else ''}), {place}")
        return found

    def stopped(self) -> list[str]:
        """Name the processes of this machine that came to the meeting and were stopped there."""
        return [f"process {other}, {_STOPPED} in this meeting" for other in range(self._count)
                if other != self._index and self._state(other)]  # fmt: skip

    def _state(self, other: int) -> str:
        """Say what the system knows of another process, where it is on this machine."""
        pid, _, host = self._note(f"who/{other}").partition(" ")
        return _state(int(pid)) if pid and host == socket.gethostname() else ""

    def _note(self, key: str) -> str:
        return bytes(self.store.get(key)).decode() if self.store.check([key]) else ""

    def _look(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            since, meeting = self._since, self._meetings
            if since is None:
                self._tell()
                continue
            if time.monotonic() - since <= self._timeout:
                continue
            names, places = self._names()
            if self._since is None or self._meetings != meeting:
                continue
            self._leave(str(_hanging(names, places, index=self._index, meeting=meeting, timeout=self._timeout)))
            return

    def _tell(self) -> None:
        """Leave word of the line that this process computes, for the case that it never leaves it."""
        from torch.distributed import DistError

        frame = sys._current_frames().get(self._watched)
        if frame is None:
            return
        innermost = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=_FRAMES, lookup_lines=False)
        doing = " > ".join(
            f"{'/'.join(Path(entry.filename).parts[-2:])}:{entry.lineno} {entry.name}" for entry in reversed(innermost)
        )
        if doing == self._told:
            return
        try:
            self.store.set(f"doing/{self._index}", doing)
            self._told = doing
        except DistError:
            return  # whoever keeps the store is gone, which the next meeting shows

    def _names(self) -> tuple[str, str]:
        from torch.distributed import DistNetworkError

        try:
            nobody = "nobody is missing: the connection itself hangs"
            return "; ".join(self.missing() or self.stopped()) or nobody, "; ".join(self.places())
        except DistNetworkError:
            return "the first process, which knows where the others were, has left already", ""


def _state(pid: int) -> str:
    """Say what the system knows of a process of this machine that does not answer; nothing where it runs."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""
    return _STOPPED if letter in "Tt" else ""


def _hanging(names: str, places: str, *, index: int, meeting: int, timeout: float) -> FineTuneError:
    return FineTuneError(
        "T21",
        what=f"a process of this training hangs: {names}",
        where=f"{places + '; ' if places else ''}process {index} waited {timeout:g} s for it at meeting {meeting}",
        why="the others can compute nothing without it; the last checkpoint is intact",
        fix="look at that process's machine (py-spy dump --pid, dmesg, nvidia-smi; kill -CONT where it is stopped); "
        "then start again. "
        "Where it was only slow, set FINETUNE_EXE_RANK_TIMEOUT higher",
    )


def _end_process(message: str, *, linger_seconds: float) -> None:
    """End the process: the thread that waits cannot be woken."""
    print(message, file=sys.stderr, flush=True)
    time.sleep(linger_seconds)
    os._exit(RESUMABLE)
