"""Processes that train together, forked from a server that has everything loaded, so that they are there at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable, Mapping
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from finetune_exe.errors import FineTuneError
from finetune_exe.models.ranks import TIMEOUT_VARIABLE, Ranks, joined_ranks

LOADED = ["torch", "transformers", "peft", "accelerate", "finetune_exe.training.loop", "tests.unit.training.processes"]
LOST = 75
Work = Callable[..., Any]
"""Called with the ranks and the keywords given; what it returns must be JSON."""


def forks() -> ForkServerContext:
    """Give the server, started on first use; its processes are many for one GPU, so they see none."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        forkserver.ensure_running()
    return context


def start(
    work: Work, folder: Path, *, count: int, timeout: float = 60.0, environment: Mapping[str, str] | None = None,
    **keywords: Any,
) -> list[BaseProcess]:  # fmt: skip
    """Start processes that meet and do some work; the first listens on a port that is kept for it all the time."""
    folder.mkdir(exist_ok=True)
    started = []
    with _kept_port() as kept:
        for rank in range(count):
            place = {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1",
                     "MASTER_PORT": str(kept.getsockname()[1]), TIMEOUT_VARIABLE: str(timeout)}  # fmt: skip
            process = forks().Process(target=_run, args=(work, folder, {**place, **(environment or {})}, keywords,
                                                         kept if rank == 0 else None))  # fmt: skip
            process.start()
            started.append(process)
    return started


def _kept_port() -> socket.socket:
    """Give a socket that keeps a port from others without listening: who asks to reuse the address may listen there."""
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("", 0))
    return kept


def results(processes: list[BaseProcess], folder: Path, *, seconds: float = 120.0) -> list[Any]:
    """Wait for processes; give what each returned, or the error it raised as {"code", "what"}, or None if it died."""
    for process in processes:
        process.join(seconds)
        if process.is_alive():
            process.kill()
    found = []
    for rank in range(len(processes)):
        file = folder / f"rank-{rank}.json"
        found.append(json.loads(file.read_text()) if file.is_file() else None)
    return found


def together(work: Work, folder: Path, *, count: int, **keywords: Any) -> list[Any]:
    """Do some work in several processes and give what each returned."""
    found = results(start(work, folder, count=count, **keywords), folder)
    assert None not in found, found
    bad = [result for result in found if isinstance(result, dict) and "traceback" in result]
    assert not bad, bad[0]["traceback"]
    return found


def _run(
    work: Work, folder: Path, environment: Mapping[str, str], keywords: dict[str, Any], _kept: socket.socket | None
) -> None:
    os.environ.update(environment)
    rank = environment["RANK"]
    written = os.open(folder / f"rank-{rank}.err", os.O_WRONLY | os.O_CREAT)
    os.dup2(written, 2)
    import torch

    torch.set_num_threads(1)
    result: Any
    try:
        with joined_ranks() as ranks:
            assert isinstance(ranks, Ranks)
            result = work(ranks, **keywords)
    except FineTuneError as fault:
        result = {"code": fault.code, "what": fault.what, "where": fault.where, "why": fault.why}
    except BaseException:  # noqa: BLE001 - it is shown in the test's own process
        result = {"traceback": traceback.format_exc()}
    (folder / f"rank-{rank}.json").write_text(json.dumps(result))
