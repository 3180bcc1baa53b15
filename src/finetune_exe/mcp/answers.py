"""What a tool answers: figures and codes of our own in the open, everything that quotes files between marks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, ParamSpec

from mcp_types import CallToolResult, ContentBlock, TextContent

from finetune_exe.agents.quoting import MOST_BYTES, fit_json, fit_text, quote, visible_json
from finetune_exe.errors import ERRORS, FineTuneError

P = ParamSpec("P")
SHORTENED = (
    "The answer was shortened: what is missing says so at its place. Ask for less, or have it written to a file."
)


def answer(facts: dict[str, Any], *, quoted: Any = None, files: Sequence[tuple[str, str]] = ()) -> CallToolResult:
    """Answer a call.

    Args:
        facts: Numbers, codes and names that this program chose; nothing that a file says.
        quoted: A value that may quote files; None for none.
        files: Names and texts of files, each in a block of its own.
    """
    blocks = [visible_json(facts)]
    if quoted is not None:
        fitted = fit_json(quoted)
        blocks += [quote(fitted.text), *([SHORTENED] if fitted.shortened else [])]
    share = MOST_BYTES // max(1, len(files))
    for name, text in files:
        blocks.append(quote(f"{fit_text(name)}:\n{fit_text(text, most_bytes=share)}"))
        blocks += [SHORTENED] if len(text.encode()) > share else []
    return CallToolResult(content=_texts(blocks), structured_content=facts)


def refusal(fault: FineTuneError) -> CallToolResult:
    """Tell a fault that can be mended; its text may quote files."""
    kind = ERRORS[fault.code]
    facts = {"error": f"FT-{fault.code}", "title": kind.title, "exit_status": kind.exit_status}
    told = quote(fit_text(str(fault), most_bytes=4_000))
    return CallToolResult(content=_texts([visible_json(facts), told]), structured_content=facts, is_error=True)


def told(tool: Callable[P, CallToolResult]) -> Callable[P, CallToolResult]:
    """Let a tool answer with the fault it meets, instead of raising it."""

    @wraps(tool)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> CallToolResult:
        try:
            return tool(*args, **kwargs)
        except FineTuneError as fault:
            return refusal(fault)

    return wrapped


def told_later(
    tool: Callable[P, Coroutine[Any, Any, CallToolResult]],
) -> Callable[P, Coroutine[Any, Any, CallToolResult]]:
    """Do the same for a tool that waits."""

    @wraps(tool)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> CallToolResult:
        try:
            return await tool(*args, **kwargs)
        except FineTuneError as fault:
            return refusal(fault)

    return wrapped


def _texts(blocks: Sequence[str]) -> list[ContentBlock]:
    return [TextContent(type="text", text=block) for block in blocks]
