"""Write a run's events down, and go on without where the disk refuses them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune_exe.domain.events import AnyEvent, Emit, encode_event


class EventLog:
    """Appends events to a file, each as one line and at once."""

    def __init__(self, handle: int, path: Path, warn: Callable[[str], None]) -> None:
        self._handle = handle
        self._path = path
        self._warn = warn
        self._torn = _ends_within_a_line(path)
        self._lost = 0

    def __call__(self, event: AnyEvent) -> None:
        """Append one event; a disk that takes none is said once, for training matters more."""
        line = (b"\n" if self._torn else b"") + encode_event(event) + b"\n"
        try:
            while line:
                line = line[os.write(self._handle, line) :]
                self._torn = True
            self._torn = False
        except OSError as fault:
            self._lost += 1
            if self._lost == 1:
                self._warn(
                    f"{self._path} cannot be written ({fault.strerror}): training goes on, but events from now on are "
                    "missing there until it can"
                )


@contextmanager
def event_log(path: Path, warn: Callable[[str], None]) -> Iterator[Emit]:
    """Open the log of a run, behind what an earlier start of the run wrote."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield EventLog(handle, path, warn)
    finally:
        os.close(handle)


def _ends_within_a_line(path: Path) -> bool:
    """Say whether the last line was cut short, as a killed process leaves it."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read(1) not in (b"", b"\n")
