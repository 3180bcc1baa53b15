"""Events are lines, even behind a torn one, and a full disk does not end a run."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from finetune_exe.domain.events import Noticed, read_events
from finetune_exe.workflow.event_log import event_log


def said(number: int) -> Noticed:
    return Noticed(seconds=float(number), message=str(number))


def test_a_line_a_killed_process_left_torn_swallows_none_of_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with event_log(path, pytest.fail) as log:
        log(said(1))
    with path.open("ab") as file:
        file.write(b'{"event":"noticed","sec')
    with event_log(path, pytest.fail) as log:
        log(said(2))
        log(said(3))
    assert read_events(path) == [said(1), said(2), said(3)]


def test_a_full_disk_is_said_once_and_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, warnings = tmp_path / "events.jsonl", list[str]()
    write, room = os.write, [20]

    def little_room(handle: int, line: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken, room[0] = min(room[0], len(line)), max(0, room[0] - len(line))
        return write(handle, line[:taken])

    with event_log(path, warnings.append) as log:
        log(said(1))
        monkeypatch.setattr(os, "write", little_room)
        for number in (2, 3, 4):
            log(said(number))
        room[0] = 10_000
        log(said(5))
    assert len(warnings) == 1
    assert "No space left" in warnings[0]
    assert read_events(path) == [said(1), said(5)]
