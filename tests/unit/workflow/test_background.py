"""Long work in processes of its own: who is at work, what it said, and how it ended."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from finetune_exe.errors import FineTuneError
from finetune_exe.workflow import run_lock
from finetune_exe.workflow.background import Background, Started, stop_training
from finetune_exe.workflow.progress import run_progress
from finetune_exe.workflow.run_lock import locked, training_process

HOLDER = """
import sys, time
from pathlib import Path
from finetune_exe.workflow.run_lock import locked
with locked(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(60)
"""


def ended(background: Background, run: Path) -> Started:
    """Wait for the process of a run."""
    _, process = background.processes[run]
    process.wait(timeout=60)
    state = background.state(run)
    assert state is not None
    return state


def test_a_command_that_ends_well_is_ended_and_its_words_are_in_the_log(tmp_path: Path) -> None:
    background, run = Background(), tmp_path / "runs" / "plan"
    assert background.state(run) is None
    background.start("training", ["--version"], run)
    assert ended(background, run) == Started(work="training", outcome="ended")
    assert "fine-tune" in background.log_tail(background.log_of(run))
    assert background.log_of(run) == tmp_path / "runs" / "plan.log"


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    background, run = Background(), tmp_path / "plan"
    background.start("training", ["train", str(tmp_path / "none.yaml")], run)
    state = ended(background, run)
    assert state.outcome == "failed"
    assert run_progress(run, started=state).state == "failed"
    assert "error[FT-C01]" in background.log_tail(background.log_of(run))


def test_two_processes_never_work_on_one_run(tmp_path: Path) -> None:
    background, run = Background(), tmp_path / "plan"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(run)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert training_process(run) == process.pid
        assert run_progress(run).state == "starting"
        with pytest.raises(FineTuneError) as refused:
            background.start("training", ["--version"], run)
        assert refused.value.code == "O02"
        assert stop_training(run) == process.pid
        assert process.wait(timeout=30) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
    assert training_process(run) is None
    with pytest.raises(FineTuneError) as nobody:
        stop_training(run)
    assert nobody.value.code == "A04"


def lock_file(run: Path, **changes: object) -> None:
    """Write a lock file as a killed process leaves it."""
    holder = {"pid": os.getpid(), "host": platform.node(), "boot": run_lock._boot_id()} | changes
    run.with_name(f".{run.name}.lock").write_text(json.dumps(holder))


def test_a_lock_that_nobody_holds_names_no_process(tmp_path: Path) -> None:
    run = tmp_path / "plan"
    assert training_process(run) is None
    lock_file(run)
    assert training_process(run) is None, "this process lives, but does not hold the lock"
    lock_file(run, pid=2**22 + 1)
    assert training_process(run) is None


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", '{"pid": "x", "host": "", "boot": ""}', '{"pid": null}'])
def test_a_lock_file_that_cannot_be_read_names_no_process(text: str, tmp_path: Path) -> None:
    (tmp_path / ".plan.lock").write_text(text)
    assert training_process(tmp_path / "plan") is None


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"boot": "an earlier start"}])
def test_processes_of_other_machines_are_left_alone(change: dict[str, str], tmp_path: Path) -> None:
    run = tmp_path / "plan"
    with locked(run, print):
        assert training_process(run) == os.getpid()
        lock_file(run, **change)
        assert training_process(run) is None


def test_looking_at_a_lock_does_not_keep_it(tmp_path: Path) -> None:
    run = tmp_path / "plan"
    lock_file(run)
    training_process(run)
    with locked(run, lambda _: None):
        assert training_process(run) == os.getpid()


def test_a_log_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (tmp_path / "plan.log").symlink_to(outside)
    with pytest.raises(FineTuneError) as refused:
        Background().start("training", ["--version"], tmp_path / "plan")
    assert refused.value.code == "I01"
    assert not outside.exists()


def test_a_long_log_is_read_from_its_end(tmp_path: Path) -> None:
    log = tmp_path / "plan.log"
    log.write_text("x" * 100_000 + "the end")
    tail = Background.log_tail(log)
    assert tail.endswith("the end")
    assert len(tail) < 10_000
    assert Background.log_tail(tmp_path / "none") == ""


def test_a_run_that_is_not_there_is_absent(tmp_path: Path) -> None:
    assert run_progress(tmp_path / "none").state == "absent"
