"""Which process ended a training, and with what status the command leaves."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.distributed.launcher import api
from torch.distributed.launcher.api import LaunchConfig

from finetune_exe.errors import BAD_DATA, BUG, OK, RESUMABLE, FineTuneError
from finetune_exe.models.ranks import TIMEOUT_SECONDS
from finetune_exe.training.elastic import SHUTDOWN_VARIABLE, Ended, judge, run_processes


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        ([(0, BAD_DATA), (1, RESUMABLE)], BAD_DATA),
        ([(1, RESUMABLE), (0, BUG)], BUG),
        ([(0, RESUMABLE), (1, RESUMABLE)], RESUMABLE),
        ([(0, BAD_DATA), (1, -signal.SIGTERM)], BAD_DATA),
    ],
)
def test_the_cause_is_told_from_those_that_followed(ended: list[tuple[int, int]], status: int) -> None:
    assert judge([Ended(*process) for process in ended]) == status


@pytest.mark.parametrize(
    ("ended", "named"),
    [
        ([(0, RESUMABLE), (1, -signal.SIGKILL)], "process 1 by SIGKILL"),
        ([(0, -signal.SIGTERM), (2, -signal.SIGSEGV), (1, BUG)], "process 2 by SIGSEGV"),
        ([(3, -signal.SIGTERM)], "process 3 by SIGTERM"),
    ],
)
def test_one_that_was_killed_is_named(ended: list[tuple[int, int]], named: str) -> None:
    with pytest.raises(FineTuneError, match=r"error\[FT-T21\]") as caught:
        judge([Ended(*process) for process in ended])
    assert caught.value.what.endswith(f": {named}")
    assert caught.value.exit_status == RESUMABLE
    assert ("memory runs out" in caught.value.where) == ("SIGKILL" in named)


def test_a_port_in_use_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent takes one that is free and keeps it, whatever the environment names."""
    meet = (
        "import os, torch.distributed as d; place = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']); "
        "store = d.TCPStore(*place, is_master=False); store.set(os.environ['RANK'], ''); store.wait(['0', '1'])"
    )
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        assert run_processes([sys.executable, "-c", meet], num_processes=2) == OK


@pytest.mark.parametrize(("visible", "seen"), [("", {""}), ("4,6", {"4", "6"}), (None, {"0", "1"})])
def test_each_process_sees_a_gpu_of_its_own_or_none_where_none_is_to_be_seen(
    visible: str | None, seen: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    tell = 'printf "%s" "$CUDA_VISIBLE_DEVICES" > "$0/$RANK"'
    assert run_processes(["sh", "-c", tell, str(tmp_path)], num_processes=2) == OK
    assert {file.read_text() for file in tmp_path.iterdir()} == seen


def test_processes_get_as_long_to_save_as_one_waits_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun's own 30 seconds would end a run within a longer step."""
    seen: list[LaunchConfig] = []

    def launch(config: LaunchConfig, program: str) -> Callable[..., None]:
        seen.append(config)
        return lambda *_: None

    monkeypatch.setattr(api, "elastic_launch", launch)
    monkeypatch.delenv(SHUTDOWN_VARIABLE, raising=False)
    assert run_processes(["true"], num_processes=1) == OK
    assert seen[0].shutdown_timeout == TIMEOUT_SECONDS
    monkeypatch.setenv(SHUTDOWN_VARIABLE, "5")
    run_processes(["true"], num_processes=1)
    assert seen[1].shutdown_timeout == 5
