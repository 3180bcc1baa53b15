"""Run a program that a model wrote, in a process of its own, with limits, in an empty folder, without the network.

The limits (time; of each process, memory and the size of its files) hold on every Unix; the network is cut where the
system lets a user do so. This keeps accidents away and is no wall against a determined attack: programs of unknown
origin belong into a container or a virtual machine.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SECONDS = 10.0
MEMORY_BYTES = 1 << 30
FILE_BYTES = 1 << 20
_KEPT_BYTES = 8_000
"""Of what a program writes: the last ones, however many there are."""
_BOOT = """
import resource, runpy, sys
limits = ((resource.RLIMIT_CPU, {seconds}), (resource.RLIMIT_AS, {memory}), (resource.RLIMIT_FSIZE, {file}),
          (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 64))
for kind, most in limits:
    resource.setrlimit(kind, (most, most))
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a program ended."""

    ok: bool
    """Whether it ran to its end without an error."""
    reason: str
    """The last line it wrote, or what stopped it."""


def run_python(code: str, *, seconds: float = SECONDS) -> Outcome:
    """Run a Python program.

    Args:
        code: The program.
        seconds: Wall time after which it, and whatever it started, is killed.
    """
    boot = _BOOT.format(seconds=max(1, int(seconds) + 1), memory=MEMORY_BYTES, file=FILE_BYTES)
    with tempfile.TemporaryDirectory(prefix="program-") as folder:
        path = Path(folder) / "program.py"
        path.write_text(code, encoding="utf-8", errors="replace")
        command = [*_without_network(), sys.executable, "-I", "-B", "-c", boot, str(path)]
        process = subprocess.Popen(
            command, cwd=folder, env={"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            written = _last_words(process, seconds)
        finally:
            _kill_group(process)
    if written is None:
        return Outcome(ok=False, reason=f"it ran longer than {seconds:g} seconds")
    lines = written.decode(errors="replace").strip().splitlines()
    return Outcome(ok=process.returncode == 0, reason=lines[-1] if lines else f"status {process.returncode}")


def _last_words(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """Wait for a program and give the end of what it wrote; None where it runs longer than it may."""
    assert process.stdout is not None
    until, written = time.monotonic() + seconds, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := until - time.monotonic()) > 0:
            part = os.read(process.stdout.fileno(), 1 << 16) if selector.select(left) else None
            if part == b"":
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=left)
                    return written
            written = (written + (part or b""))[-_KEPT_BYTES:]
    return None


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a program and its children; those that ended already are no matter."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


@cache
def _without_network() -> tuple[str, ...]:
    """Give the words that start a program without network, where this system lets a user do so."""
    words = ("/usr/bin/unshare", "--user", "--net", "--")
    try:
        done = subprocess.run([*words, "/bin/true"], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return words if done.returncode == 0 else ()
