"""The first signal asks, the second ends the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from finetune_exe.workflow.signals import NAMES, stop_on_signals


@pytest.mark.parametrize("name", NAMES)
def test_the_first_signal_only_asks(name: str) -> None:
    notes: list[str] = []
    number = signal.Signals[name]
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with stop_on_signals(notes.append) as asked:
            assert asked() is None
            os.kill(os.getpid(), number)
            assert asked() == name
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert len(notes) == 1
    assert name in notes[0]


def test_the_second_signal_ends_the_process_at_once() -> None:
    code = """
import os, signal, time
from finetune_exe.workflow.signals import stop_on_signals
with stop_on_signals(lambda _: None):
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=50).returncode == -signal.SIGTERM


def test_a_terminal_that_closes_asks_once_however_often_it_is_told() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    notes: list[str] = []
    try:
        with stop_on_signals(notes.append) as asked:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGHUP)
            assert asked() == "SIGHUP"
    finally:
        signal.signal(signal.SIGHUP, before)
    assert len(notes) == 1


def test_signals_that_were_to_be_ignored_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals(pytest.fail) as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            assert asked() is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_off_the_main_thread_nothing_is_changed() -> None:
    found: list[object] = []

    def look() -> None:
        with stop_on_signals(pytest.fail) as asked:
            found.extend([signal.getsignal(signal.SIGTERM), asked()])

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM), None]
