"""A terminal that closes under a training: the run saves and leaves, and is taken up again elsewhere."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.integration.conftest import FineTune
from tests.tiny import write_rows

from finetune_exe.domain.events import RunStopped, StepFinished, read_events
from finetune_exe.errors import OK, RESUMABLE

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
SETTINGS = ("precision.base_dtype=float32", "schedule.max_steps=5000", "schedule.epochs=5000")
TAKE_TERMINAL = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "finetune_exe", *sys.argv[1:]])
"""


def has_stepped(events: Path) -> bool:
    return events.is_file() and any(isinstance(event, StepFinished) for event in read_events(events))


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such terminals")
@pytest.mark.parametrize("shown", [(), ("--json",)])
def test_a_run_whose_terminal_closes_saves_and_leaves(
    shown: tuple[str, ...], tmp_path: Path, tiny_model: Path, fine_tune: FineTune
) -> None:
    write_rows(tmp_path / "rows.jsonl")
    options = [word for setting in SETTINGS for word in ("--set", setting)]
    made = fine_tune("analyze", "answer", "--data", "rows.jsonl", "--model", tiny_model, "--cpu", *options)
    assert made.status == OK, made.err
    ours, its = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, "train", "plan.yaml", "--run", "run", *shown],
        stdin=its, stdout=its, stderr=its, cwd=tmp_path, env={**os.environ, **ENVIRONMENT},
    )  # fmt: skip
    os.close(its)
    events, deadline = tmp_path / "run" / "events.jsonl", time.monotonic() + 100
    while not has_stepped(events):
        if select.select([ours], [], [], 0.1)[0]:
            os.read(ours, 1 << 16)
        assert process.poll() is None
        assert time.monotonic() < deadline
    os.close(ours)
    process.send_signal(signal.SIGHUP)  # as a shell does for its jobs, besides the system
    assert process.wait(timeout=100) == RESUMABLE
    last = read_events(events)[-1]
    assert isinstance(last, RunStopped)
    assert last.reason == "SIGHUP"
    assert (tmp_path / "run" / "checkpoints" / f"step-{last.step}" / "manifest.json").is_file()
