"""The plugin folder for marketplaces is that of the code; rewrite with UPDATE_GOLDEN=1."""

from __future__ import annotations

import json
import os
from pathlib import Path

from finetune_exe.agents.plugin import marketplace_file, plugin_files
from finetune_exe.agents.skill import skill_files

ROOT = Path(__file__).resolve().parents[3]
PLUGIN = "plugins/fine-tune"


def written(path: Path, content: bytes) -> bytes:
    """Give what stands in a file, after writing it anew where that is wished."""
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path.read_bytes()


def test_the_plugin_folder_is_that_of_the_code() -> None:
    files = {f"{PLUGIN}/{name}": content for name, content in plugin_files().items()}
    files[".claude-plugin/marketplace.json"] = marketplace_file(f"./{PLUGIN}")
    for name, content in files.items():
        assert written(ROOT / name, content) == content, name
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / PLUGIN).rglob("*") if path.is_file()}
    assert there == {name for name in files if name.startswith(PLUGIN)}


def test_the_plugin_starts_this_server_and_carries_the_skill() -> None:
    files = plugin_files()
    server = json.loads(files[".mcp.json"])["mcpServers"]["fine-tune"]
    assert (server["command"], server["args"]) == ("fine-tune", ["mcp"])
    assert {name.removeprefix("skills/fine-tune/") for name in files if name.startswith("skills/")} == set(
        skill_files()
    )
    market = json.loads(marketplace_file(f"./{PLUGIN}"))
    assert (ROOT / market["plugins"][0]["source"] / ".claude-plugin" / "plugin.json").is_file()
    assert market["plugins"][0]["name"] == json.loads(files[".claude-plugin/plugin.json"])["name"] == "fine-tune"
