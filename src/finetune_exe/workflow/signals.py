"""Signals that ask a run to save and leave."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

CLOSED = "SIGHUP"
"""A terminal that closes."""
NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", CLOSED)
"""Ctrl-C; what batch systems and machines that are taken away send; a terminal that closes."""


@contextmanager
def stop_on_signals(note: Callable[[str], None]) -> Iterator[Callable[[], str | None]]:
    """Collect signals while the block runs: the first asks to stop, the second ends the process at once.

    A terminal that closes is told by the system and by its shell, so that a second SIGHUP says nothing new.

    Signals that the process was started to ignore, as under nohup, stay ignored. Off the main thread nothing is
    changed, for signals arrive there alone.

    Args:
        note: Told that the first signal was heard.

    Yields:
        A function that gives the name of the signal that came, or None.
    """
    heard: list[str] = []

    def hear(number: int, _: FrameType | None) -> None:
        if heard and signal.Signals(number).name == CLOSED:
            return
        if heard:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        heard.append(signal.Signals(number).name)
        note(f"{heard[0]}: the run saves after this step and leaves; once more to leave at once")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {}
    for name in NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, hear)
    try:
        yield lambda: heard[0] if heard else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
