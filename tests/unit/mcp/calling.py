"""Call the server in this process, as a client of the protocol does."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult

from finetune_exe.agents.roots import Roots
from finetune_exe.mcp.server import build_server

Agrees = Literal["unticked"] | bool | None


def with_client(
    root: Path,
    work: Callable[[Client], Awaitable[Any]],
    *,
    agrees: Agrees = None,
    mode: str = "auto",
    asked: list[str] | None = None,
) -> Any:
    """Run `work` with a client of a server for one folder.

    Args:
        root: The folder.
        work: What to do.
        agrees: What the user answers when asked: yes, no ("unticked" leaves the question open); None for a client that
            cannot ask.
        asked: Takes what the user is asked.
        mode: "auto" for the protocol of today, "legacy" for the one before.
    """

    async def answer(_: Any, question: ElicitRequestParams) -> ElicitResult:
        if asked is not None:
            asked.append(question.message)
        content = {"agreed": agrees is True} if agrees else None
        return ElicitResult(action="accept" if agrees else "decline", content=content)

    async def run() -> Any:
        server = build_server(Roots.declared([root]))
        async with Client(server, mode=mode, elicitation_callback=answer if agrees is not None else None) as client:
            try:
                return await work(client)
            except MCPError as fault:
                return fault  # raised outside, where no task group wraps it

    done = asyncio.run(run())
    if isinstance(done, MCPError):
        raise done
    return done


def call(
    root: Path,
    tool: str,
    *,
    agrees: Agrees = None,
    mode: str = "auto",
    asked: list[str] | None = None,
    **arguments: Any,
) -> CallToolResult:
    """Call one tool."""
    result: CallToolResult = with_client(
        root, lambda client: client.call_tool(tool, arguments), agrees=agrees, mode=mode, asked=asked
    )
    return result


def texts(result: CallToolResult) -> list[str]:
    """Give the blocks of an answer."""
    return [block.text for block in result.content if block.type == "text"]


def quoted(text: str) -> str:
    """Take the marks off a block."""
    found = re.fullmatch(r"<(untrusted-[0-9a-f]{16})>\n[^\n]*\n(.*)\n</\1>", text, re.DOTALL)
    assert found, text[:200]
    return found[2]


def quoted_json(result: CallToolResult) -> Any:
    """Read the block that quotes files."""
    return json.loads(quoted(texts(result)[1]))
