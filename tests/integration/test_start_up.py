"""Nothing heavy is loaded before it is needed."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.review.planted import SOUND

SCRIPT = """
import json, sys
from finetune_exe.cli.main import main
try:
    main()
except SystemExit as left:
    print(json.dumps({"status": left.code, "modules": sorted(sys.modules)}), file=sys.stderr)
"""
TRAINING = {"torch", "transformers", "peft", "accelerate", "safetensors"}
HEAVY = TRAINING | {"numpy", "duckdb", "rich", "tokenizers", "huggingface_hub"}
LIGHT_COMMANDS: dict[str, tuple[list[str], set[str]]] = {
    "help": (["--help"], HEAVY | {"pydantic", "jinja2", "finetune_exe.domain.document"}),
    "version": (["--version"], HEAVY | {"pydantic"}),
    "train --help": (["train", "--help"], HEAVY),
    "analyze": (["analyze", "classify support mails by urgency", "--json"], HEAVY | {"jinja2"}),
    "analyze on rows": (["analyze", "answer", "--data", "rows.jsonl", "--json"], HEAVY - {"tokenizers"}),
    "config": (["config", "embedded", "--to", "python"], HEAVY),
    "review": (["review", "axolotl.yaml", "--json"], HEAVY),
    "debug": (["debug", "trace.log", "--json"], HEAVY),
    "dataset --check": (["dataset", "rows.jsonl", "--check", "--json"], HEAVY - {"numpy"}),
    "dataset chatml": (["dataset", "chatml", "rows.jsonl"], HEAVY),
    "agent --help": (["agent", "install", "--help"], HEAVY | {"pydantic", "mcp"}),
    "agent install": (["agent", "install", "--dry-run"], HEAVY | {"pydantic", "mcp"}),
    "mcp --help": (["mcp", "--help"], HEAVY | {"pydantic", "mcp"}),
    "schema": (["schema", "plan"], HEAVY | {"mcp"}),
    "unknown command": (["anlyze"], HEAVY | {"pydantic"}),
}


def modules_after(arguments: list[str], folder: Path) -> tuple[int, set[str], float]:
    """Run a command; give its status, the modules it left loaded, and the CPU seconds it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    left = json.loads(done.stderr.splitlines()[-1])
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return int(left["status"] or 0), set(left["modules"]), seconds


@pytest.mark.parametrize("name", LIGHT_COMMANDS)
def test_light_commands_load_nothing_heavy(name: str, tmp_path: Path) -> None:
    arguments, forbidden = LIGHT_COMMANDS[name]
    rows = [json.dumps({"instruction": f"say {number}", "output": f"it is {number}"}) for number in range(12)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "axolotl.yaml").write_text(SOUND["axolotl.yaml"])
    (tmp_path / "trace.log").write_text("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n")
    status, modules, seconds = modules_after(arguments, tmp_path)
    print(f"{name}: {seconds:.2f} s of CPU")
    assert status == (2 if name == "unknown command" else 0)
    assert not forbidden & modules


def test_checking_masks_needs_a_tokenizer_but_no_pytorch(tmp_path: Path, tiny_model: Path) -> None:
    rows = [json.dumps({"instruction": f"say {number}", "output": f"it is {number}"}) for number in range(12)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows) + "\n")
    status, modules, _ = modules_after(["dataset", "rows.jsonl", "--check", "--model", str(tiny_model)], tmp_path)
    assert status == 0
    assert not TRAINING & modules
    assert "tokenizers" in modules


def test_the_probe_sees_what_is_loaded(tmp_path: Path) -> None:
    _, modules, _ = modules_after(["analyze", "chat"], tmp_path)
    assert {"pydantic", "finetune_exe.planning.analyze"} <= modules
