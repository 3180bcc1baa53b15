"""Where other trainers are installed: each has an environment of its own, for they pin other versions of the same things.

FINETUNE_PEERS names a folder with an environment for each (`axolotl/bin/python`) and the wheels of those that need a GPU
to be imported (`wheels/unsloth-*.whl`). A peer that is not there is skipped, and the reason said.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

_CODE_OF_RESULT = "print('RESULT ' + json.dumps(result))"
SECONDS = 300


def _folder() -> Path:
    named = os.environ.get("FINETUNE_PEERS")
    if not named:
        pytest.skip("FINETUNE_PEERS names no folder of other trainers: see CONTRIBUTING.md")
    return Path(named)


def peer_python(name: str) -> Path:
    """Give the Python of a peer's environment."""
    python = _folder() / name / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"{name} is not installed in {python.parent.parent}")
    return python


def ask_peer(name: str, code: str, *arguments: str | Path) -> Any:
    """Run code with a peer's own Python; it leaves its answer, JSON values, in `result`."""
    python = peer_python(name)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
    environment.pop("PYTHONPATH", None)
    source = f"import json, sys\n{code}\n{_CODE_OF_RESULT}"
    done = subprocess.run(
        [str(python), "-c", source, *map(str, arguments)], capture_output=True, text=True, check=False,
        timeout=SECONDS, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, f"{name} refused:\n{done.stderr[-4000:]}"
    answers = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return json.loads(answers[-1].removeprefix("RESULT "))


def source_of(wheel: str, path: str) -> ast.Module:
    """Read a module of a wheel that cannot be imported here."""
    found = sorted((_folder() / "wheels").glob(f"{wheel}-*.whl"))
    if not found:
        pytest.skip(f"no wheel of {wheel} in {_folder() / 'wheels'}")
    with zipfile.ZipFile(found[-1]) as archive:
        return ast.parse(archive.read(path))


def arguments_of(module: ast.Module, owner: str, function: str) -> set[str]:
    """Name the arguments of a method."""
    for node in module.body:
        if isinstance(node, ast.ClassDef) and node.name == owner:
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name == function:
                    given = method.args
                    return {entry.arg for entry in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
    raise AssertionError(f"{owner}.{function} is no longer there")


def fields_of(module: ast.Module, owner: str) -> set[str]:
    """Name the fields of a dataclass."""
    for node in module.body:
        if isinstance(node, ast.ClassDef) and node.name == owner:
            return {
                entry.target.id
                for entry in node.body
                if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name)
            }
    raise AssertionError(f"{owner} is no longer there")
