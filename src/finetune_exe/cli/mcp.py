"""`fine-tune mcp`."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import click

from finetune_exe.errors import missing_component


@click.command("mcp")
@click.option("--root", "roots", multiple=True, type=click.Path(path_type=Path), help="A folder whose files the agent may use. May be given again.  [default: this folder]")  # fmt: skip
def command(roots: tuple[Path, ...]) -> None:
    """Serve agents over the Model Context Protocol, on standard input and output.

    Started by the agent, not by hand. Nothing outside of the declared folders can be named; tools that write or train
    ask the user first.

    \b
    fine-tune mcp
    fine-tune mcp --root ~/project --root ~/data
    claude mcp add fine-tune -- fine-tune mcp
    """
    if importlib.util.find_spec("mcp") is None:
        raise missing_component("mcp", extra="mcp", needed_for="serving agents")
    from finetune_exe.agents.roots import Roots
    from finetune_exe.mcp.server import build_server

    declared = Roots.declared(roots or (Path.cwd(),))
    os.chdir(declared.folders[0])
    if sys.stdin.isatty():
        click.echo("waiting for an agent on standard input, as in: claude mcp add fine-tune -- fine-tune mcp", err=True)
    build_server(declared).run("stdio")
