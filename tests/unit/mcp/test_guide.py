"""The guide, llms.txt and the plugin folder are those of the code; rewrite with UPDATE_GOLDEN=1."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

pytest.importorskip("mcp", reason="the part [mcp] is not installed")

from mcp import Client
from tests.unit.mcp.calling import with_client

from finetune_exe.agents.plugin import marketplace_file, plugin_files
from finetune_exe.agents.skill import skill_files
from finetune_exe.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[3]
BEGIN, END = "<!-- server: written by tests/unit/mcp/test_guide.py -->", "<!-- end of server -->"
PLUGIN = "plugins/fine-tune"


async def _reference(client: Client) -> str:
    """Write what the server offers as tables."""
    tools = (await client.list_tools()).tools
    rows = ["| tool | kind | does |", "|---|---|---|"]
    for tool in tools:
        assert tool.annotations is not None
        kind = "reads" if tool.annotations.read_only_hint else "writes, asks first"
        rows.append(f"| `{tool.name}` | {kind} | {tool.description} |")
    rows += ["", "| resource | holds |", "|---|---|"]
    resources = [(str(found.uri), found.description) for found in (await client.list_resources()).resources]
    templates = (await client.list_resource_templates()).resource_templates
    rows += [
        f"| `{address}` | {does} |"
        for address, does in (*resources, *((t.uri_template, t.description) for t in templates))
    ]
    prompts = (await client.list_prompts()).prompts
    return "\n".join([*rows, "", "Prompts: " + ", ".join(f"`{prompt.name}`" for prompt in prompts) + "."])


def written(path: Path, content: bytes) -> bytes:
    """Give what stands in a file, after writing it anew where that is wished."""
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path.read_bytes()


def test_the_guide_lists_what_the_server_offers(tmp_path: Path) -> None:
    page = ROOT / "docs" / "guides" / "agents.md"
    before, rest = page.read_text(encoding="utf-8").split(BEGIN + "\n", 1)
    text = f"{before}{BEGIN}\n\n{with_client(tmp_path, _reference)}\n\n{rest[rest.index(END) :]}"
    assert written(page, text.encode()).decode() == text


def llms_text() -> str:
    """Write the page by which a language model finds its way: commands and guides."""
    pages = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"^- \[([^\]]+)\]\(((?:guides|errors)/[^)]+)\): ((?:.|\n  )+)$", pages, re.MULTILINE)
    commands = [f"- `fine-tune {name}`: {does}" for name, does in COMMANDS.items()]
    guides = [f"- [{title}](docs/{path}): {' '.join(says.split())}" for title, path, says in links]
    return "\n".join([
        "# FINETUNE.EXE", "",
        "> A fine-tuning specialist for language models whose advice can be checked: it plans, prepares data, trains, evaluates "
        "and debugs, and every figure has an interval, a reason and a source.", "",
        "Install with `pip install finetune-exe`. Every command takes `--json` and `--help`; exit status 3 means that a check "
        "says no. Agents call it through the skill or the MCP server: [agents](docs/guides/agents.md).", "",
        "## Commands", "", *commands, "", "## Pages", "", *guides, "- [Readme](README.md)", "",
    ])  # fmt: skip


def test_llms_txt_lists_commands_and_pages() -> None:
    text = llms_text()
    assert text.count("](docs/guides/") > 15
    assert written(ROOT / "llms.txt", text.encode()).decode() == text
    assert not [path for path in re.findall(r"\]\(([^)]+)\)", text) if not (ROOT / path).is_file()]


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
