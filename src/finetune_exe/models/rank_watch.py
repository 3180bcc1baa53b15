"""Notice a process that hangs: each says where it waits for the others, and who waits too long names who is missing."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from finetune_exe.errors import RESUMABLE, FineTuneError

LOOK_SECONDS = 0.5
LINGER_SECONDS = 3.0
"""The first process may keep the store: it stays until the others have read who is missing."""
_ANSWER_SECONDS = 10.0


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
        found = []
        for other in range(self._count):
            seen = self._last_seen(other)
            meetings, _, label = seen.partition(" ")
            if other != self._index and int(meetings or 0) < self._meetings:
                where = f"meeting {meetings} ({label})" if seen else "no meeting"
                found.append(f"process {other}, last seen at {where}")
        return found

    def _last_seen(self, other: int) -> str:
        from torch.distributed import DistNetworkError, DistStoreError

        try:
            self.store.wait([f"at/{other}"], timedelta(seconds=_ANSWER_SECONDS))
            return bytes(self.store.get(f"at/{other}")).decode()
        except DistNetworkError:
            raise
        except DistStoreError:
            return ""

    def _look(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            since, meeting = self._since, self._meetings
            if since is None or time.monotonic() - since <= self._timeout:
                continue
            names = self._names()
            if self._since is None or self._meetings != meeting:
                continue
            self._leave(str(_hanging(names, index=self._index, meeting=meeting, timeout=self._timeout)))
            return

    def _names(self) -> str:
        from torch.distributed import DistNetworkError

        try:
            return "; ".join(self.missing()) or "nobody is missing: the connection itself hangs"
        except DistNetworkError:
            return "the first process, which knows where the others were, has left already"


def _hanging(names: str, *, index: int, meeting: int, timeout: float) -> FineTuneError:
    return FineTuneError(
        "T21",
        what=f"a process of this training hangs: {names}",
        where=f"process {index} waited {timeout:g} s for it at meeting {meeting}",
        why="the others can compute nothing without it; the last checkpoint is intact",
        fix="look at that process's machine (py-spy dump --pid, dmesg, nvidia-smi); then start again. "
        "Where it was only slow, set FINETUNE_EXE_RANK_TIMEOUT higher",
    )


def _end_process(message: str, *, linger_seconds: float) -> None:
    """End the process: the thread that waits cannot be woken."""
    print(message, file=sys.stderr, flush=True)
    time.sleep(linger_seconds)
    os._exit(RESUMABLE)
