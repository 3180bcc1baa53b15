"""The guide says what the server offers; rewrite with UPDATE_GOLDEN=1."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("mcp", reason="the part [mcp] is not installed")

from mcp import Client
from tests.unit.mcp.calling import with_client

ROOT = Path(__file__).resolve().parents[3]
BEGIN, END = "<!-- server: written by tests/unit/mcp/test_guide.py -->", "<!-- end of server -->"


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


def test_the_guide_lists_what_the_server_offers(tmp_path: Path) -> None:
    page = ROOT / "docs" / "guides" / "agents.md"
    before, rest = page.read_text(encoding="utf-8").split(BEGIN + "\n", 1)
    text = f"{before}{BEGIN}\n\n{with_client(tmp_path, _reference)}\n\n{rest[rest.index(END) :]}"
    if os.environ.get("UPDATE_GOLDEN"):
        page.write_text(text, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == text
