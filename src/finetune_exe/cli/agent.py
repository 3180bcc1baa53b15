"""`fine-tune agent`: the skill for coding agents, and the requests they make."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from finetune_exe.agents.quoting import MOST_BYTES
from finetune_exe.errors import GATE, FineTuneError
from finetune_exe.report.boxes import clean

if TYPE_CHECKING:
    from finetune_exe.agents.install import SkillFolder

_OPTIONS = (
    click.option("--claude", is_flag=True, help="For Claude Code: .claude/skills."),
    click.option("--codex", is_flag=True, help="For Codex: .agents/skills."),
    click.option("--gemini", is_flag=True, help="For Gemini CLI: .agents/skills, and a command in .gemini/commands."),
    click.option("--cursor", is_flag=True, help="For Cursor: .cursor/skills."),
    click.option("--project/--user", default=True, help="In this folder, or in your own.  [default: --project]"),
    click.option("--dry-run", is_flag=True, help="Only say what would be done."),
    click.option("--overwrite", is_flag=True, help="Also where you edited a file."),
    click.option("--json", "as_json", is_flag=True, help="Write one JSON object on stdout, and nothing else."),
)
_INSTALLED = {"new": "written", "outdated": "brought up to date", "edited": "replaced", "current": "unchanged"}
_MOST_NOTES = 2_000
_ABSENT = "not there"
_REMOVED = {"new": _ABSENT, "outdated": "removed", "edited": "removed", "current": "removed"}


def _places(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say where the skill is to be."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group("agent")
def command() -> None:
    """Let coding agents use this program: `/fine-tune analyze ...` and the other four commands.

    \b
    fine-tune agent install
    fine-tune agent install --claude --user
    fine-tune agent install --verify
    fine-tune agent uninstall
    """


@command.command("install", short_help="Write the skill where agents look for it.")
@_places
@click.option("--verify", is_flag=True, help="Only compare; leave with status 3 unless all is there as this version writes it.")  # fmt: skip
@click.pass_context
def install(
    context: click.Context,
    /,
    project: bool,
    dry_run: bool,
    verify: bool,
    overwrite: bool,
    as_json: bool,
    **agents: bool,
) -> None:
    """Write the skill where agents look for it; without an agent's name, where all of them do.

    \b
    fine-tune agent install
    fine-tune agent install --codex --gemini --user
    fine-tune agent install --dry-run
    fine-tune agent install --verify
    """
    from finetune_exe.agents.install import look, write

    folders = look(_named(agents), _root(project=project))
    if verify:
        _say(folders, {state: "missing" if state == "new" else state for state in _INSTALLED}, as_json=as_json)
        if not all(folder.current for folder in folders):
            context.exit(GATE)
        return
    if not dry_run:
        write(folders, overwrite=overwrite)
    _say(folders, _words(_INSTALLED, dry_run=dry_run, overwrite=overwrite), as_json=as_json)


@command.command("uninstall", short_help="Remove the skill again.")
@_places
def uninstall(project: bool, dry_run: bool, overwrite: bool, as_json: bool, **agents: bool) -> None:
    """Remove the skill again, without an agent's name from all places; files that are not its own stay.

    \b
    fine-tune agent uninstall
    fine-tune agent uninstall --claude --user
    """
    from finetune_exe.agents.install import AGENTS, look, remove

    folders = look(_named(agents) or [*AGENTS], _root(project=project))
    if not dry_run:
        remove(folders, overwrite=overwrite)
    _say(folders, _words(_REMOVED, dry_run=dry_run, overwrite=overwrite), as_json=as_json)


@command.command("run", short_help="Run the command that a JSON file asks for.")
@click.argument("request", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--confirmed", is_flag=True, help="The user agreed: training, replacing files and files elsewhere are allowed.")  # fmt: skip
@click.pass_context
def run(context: click.Context, request: Path, confirmed: bool) -> None:
    """Run the command that REQUEST, a JSON file, asks for: no word of it is read by a shell.

    The answer is cut to a size that an agent can read and put between marks, for it quotes files; the whole of it goes
    to a file beside the request.

    \b
    echo '{"command": "analyze", "words": ["answer support mails"]}' > request.json
    fine-tune agent run request.json
    """
    from finetune_exe.agents.request import read_request
    from finetune_exe.atomic import write_file
    from finetune_exe.cli.main import cli

    said, notes, answer = io.StringIO(), io.StringIO(), request.parent / f"{request.stem}.answer.json"
    fault: FineTuneError | click.ClickException | None = None
    try:
        asked = read_request(request, confirmed=confirmed)
        with redirect_stdout(said), redirect_stderr(notes):
            status = cli.main([asked.command, *asked.arguments], prog_name="fine-tune", standalone_mode=False)
    except FineTuneError as met:
        fault, status = met, met.exit_status
    except click.ClickException as met:
        fault, status = met, met.exit_code
    if fault is None or said.getvalue():
        write_file(answer, said.getvalue().encode(errors="replace"))
        _show_answer(said.getvalue(), answer)
    if isinstance(fault, FineTuneError):
        _show_fault(f"error[FT-{fault.code}]", str(fault))
    elif fault is not None:
        _show_fault("the request does not fit the command", fault.format_message())
    if notes.getvalue().strip():
        _show_fault("what it said meanwhile:", notes.getvalue(), most_bytes=_MOST_NOTES)
    context.exit(status if isinstance(status, int) else 0)


def _show_answer(said: str, answer: Path) -> None:
    """Print what a command wrote between marks and cut to size; where it wrote several lines, the last one first."""
    from finetune_exe.agents.quoting import fit_json, fit_text, quote
    from finetune_exe.cli.surface import say

    lines = said.removesuffix("\n").split("\n")
    if not said:
        return
    try:
        *before, last = map(json.loads, lines)
        shown = fit_json({"last": last, "before": before} if before else last)
    except ValueError:
        say(quote(fit_text(said)))
        return
    say(quote(shown.text))
    if shown.shortened:
        say(f"Shortened; the whole answer lies in {answer}")


def _show_fault(title: str, message: str, *, most_bytes: int = MOST_BYTES) -> None:
    """Print a fault, or notes, between marks, too: they may quote a file."""
    from finetune_exe.agents.quoting import fit_text, quote

    click.echo(f"{title}\n{quote(fit_text(message, most_bytes=most_bytes))}", err=True)


def _named(agents: dict[str, bool]) -> list[str]:
    return [name for name, given in agents.items() if given]


def _root(*, project: bool) -> Path:
    return Path.cwd() if project else Path.home()


def _words(done: dict[str, str], *, dry_run: bool, overwrite: bool) -> dict[str, str]:
    """Say what is done with a file in each state, or would be."""
    if not dry_run:
        return done
    would = {state: word if word in ("unchanged", _ABSENT) else f"would be {word}" for state, word in done.items()}
    return would if overwrite else would | {"edited": "edited by you: needs --overwrite"}


def _say(folders: tuple[SkillFolder, ...], words: dict[str, str], *, as_json: bool) -> None:
    found = [(str(file.path), words[file.state]) for folder in folders for file in folder.files]
    found += [(str(path), "no longer part of the skill") for folder in folders for path in folder.leftovers]
    if as_json:
        from finetune_exe.cli.surface import write_json

        write_json(files=[{"path": path, "state": state} for path, state in found],
                   current=all(folder.current for folder in folders))  # fmt: skip
        return
    there = [f"{state}: {path}" for path, state in found if state != _ABSENT]
    click.echo("\n".join(map(clean, there)) or "the skill is not here")
