"""The command line as a user meets it, in this process or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import write_model

from finetune_exe.cli.main import main


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it wrote with --json."""
        return json.loads(self.out)


FineTune = Callable[..., Done]


@pytest.fixture
def fine_tune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> FineTune:
    """Run `fine-tune ARGUMENTS` in this process, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["fine-tune", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        captured = capfd.readouterr()
        code = left.value.code
        return Done(status=code if isinstance(code, int) else 0, out=captured.out, err=captured.err)

    return run


def in_a_process(*arguments: str | Path, folder: Path, environment: Mapping[str, str] | None = None) -> Done:
    """Run `fine-tune ARGUMENTS` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "finetune_exe", *map(str, arguments)],
        cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return Done(status=done.returncode, out=done.stdout, err=done.stderr)


def contents(folder: Path) -> dict[str, bytes]:
    """Read every file below a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny")
