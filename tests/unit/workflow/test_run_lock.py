"""Two processes never write into one run folder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from finetune_exe.errors import EXISTS, IO, FineTuneError
from finetune_exe.workflow.run_lock import locked

HOLD = """
import sys, time
from pathlib import Path
from finetune_exe.workflow.run_lock import locked
with locked(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(run: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_holds_it_and_takes_over_once_that_is_dead(tmp_path: Path) -> None:
    run, notes = tmp_path / "run", list[str]()
    with holder(run) as process:
        with pytest.raises(FineTuneError, match=r"error\[FT-O02\]") as refused, locked(run, notes.append):
            pass
        assert refused.value.exit_status == EXISTS
        assert f"process {process.pid} on {os.uname().nodename}" in refused.value.what
        assert not notes
        process.send_signal(signal.SIGKILL)
    with locked(run, notes.append):
        assert str(process.pid) in notes[0]
    assert not list(tmp_path.iterdir())


def test_a_lock_from_before_a_power_loss_is_taken_over_with_a_note(tmp_path: Path) -> None:
    notes: list[str] = []
    left = {"pid": os.getpid(), "host": "here", "boot": "another boot"}
    (tmp_path / ".run.lock").write_text(json.dumps(left))
    with locked(tmp_path / "run", notes.append):
        assert len(notes) == 1
        assert "before that machine was started anew" in notes[0]


def test_a_lock_whose_holder_takes_it_away_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening the file and locking it the last holder leaves, and removes it: another may make a new one."""
    real, calls = fcntl.flock, list[int]()

    def removed_before(handle: int, operation: int) -> None:
        calls.append(handle)
        if len(calls) == 1:
            (tmp_path / ".run.lock").unlink()
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", removed_before)
    with locked(tmp_path / "run", lambda _: None):
        assert len(calls) == 2
        assert (tmp_path / ".run.lock").is_file()
        with pytest.raises(FineTuneError, match="FT-O02"), locked(tmp_path / "run", lambda _: None):
            pass


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "\x00" * 100])
def test_a_lock_nobody_can_read_is_no_obstacle(content: str, tmp_path: Path) -> None:
    (tmp_path / ".run.lock").write_text(content)
    with locked(tmp_path / "run", lambda _: None):
        assert json.loads((tmp_path / ".run.lock").read_text())["pid"] == os.getpid()


def test_a_run_in_a_folder_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, *_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(FineTuneError, match=r"error\[FT-I01\].*Read-only") as fault, locked(tmp_path / "run", print):
        pass
    assert fault.value.exit_status == IO
    assert fault.value.where == str(tmp_path / "run"), "what the user named, not the lock"
    assert fault.value.fix.endswith(f"chmod u+w {tmp_path}")


def test_the_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Advice for a folder that is not there would be of no use."""

    def refused(path: Path, *_: object) -> None:
        missing = "" if Path(path).parent.is_dir() else "there is no folder around it"
        raise FileNotFoundError(missing) if missing else OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "mkdir", refused)
    with pytest.raises(FineTuneError, match=r"error\[FT-I01\]") as fault, locked(tmp_path / "a" / "b" / "run", print):
        pass
    assert fault.value.where == f"{tmp_path / 'a' / 'b' / 'run'} (at {tmp_path / 'a'})"
    assert fault.value.fix.endswith(f"chmod u+w {tmp_path}")
