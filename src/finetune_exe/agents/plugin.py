"""The same skill, and the MCP server, as a plugin folder for the marketplaces of coding agents."""

from __future__ import annotations

import json

from finetune_exe import __version__
from finetune_exe.agents.skill import NAME, skill_files

_DESCRIPTION = "Plan, check, run, evaluate and debug the fine-tuning of language models"
_SERVER = {"mcpServers": {NAME: {"command": "fine-tune", "args": ["mcp"]}}}


def plugin_files() -> dict[str, bytes]:
    """Give the content of each file of the plugin by its path in the plugin's folder."""
    about = {
        "name": NAME,
        "version": __version__,
        "description": _DESCRIPTION,
        "author": {"name": "The FINETUNE.EXE contributors"},
        "license": "Apache-2.0",
        "keywords": ["fine-tuning", "lora", "qlora", "llm", "evaluation"],
    }
    skill = {f"skills/{NAME}/{name}": content for name, content in skill_files().items()}
    return {".claude-plugin/plugin.json": _json(about), ".mcp.json": _json(_SERVER), **skill}


def marketplace_file(source: str) -> bytes:
    """Give the list by which a marketplace finds the plugin.

    Args:
        source: The plugin's folder, relative to that of the marketplace.
    """
    plugin = {"name": NAME, "source": source, "description": _DESCRIPTION, "license": "Apache-2.0"}
    return _json({"name": "finetune-exe", "owner": {"name": "The FINETUNE.EXE contributors"}, "plugins": [plugin]})


def _json(content: object) -> bytes:
    return json.dumps(content, indent=2).encode() + b"\n"
