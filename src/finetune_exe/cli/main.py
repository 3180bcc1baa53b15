"""The `fine-tune` command: finds the subcommand, and turns every fault into a message and an exit status."""

from __future__ import annotations

import importlib
import io
import os
import sys
from difflib import get_close_matches
from typing import TextIO

import click

from finetune_exe import __version__
from finetune_exe.errors import BUG, INTERRUPTED, IO, FineTuneError

COMMANDS = {
    "analyze": "Recommend an approach: the boxed FINE-TUNING PLAN and plan.yaml",
    "dataset": "Check, convert or prepare data",
    "config": "Write the training configuration, for this or another trainer",
    "review": "Review training configurations of other programs: keys, contradictions, traps, memory",
    "openai": "Check chat files, and train at a service with OpenAI's fine-tuning interface",
    "estimate": "Memory, speed and cost of one configuration, or of many recorded runs",
    "train": "Train what a plan says",
    "tune": "Search better settings within the intervals of a plan",
    "eval": "Compare a tuned model with its base on held-out rows",
    "export": "Write a model that passed its evaluation: merged, GGUF with a Modelfile, or adapter, with its card",
    "compare": "Compare two models' scores on the same items",
    "forecast": "What more rows would bring, from runs on fewer",
    "debug": "Find out why a run went wrong",
    "doctor": "What is installed and can be done here; self-tests of the training stack's numbers",
    "agent": "Let coding agents use this program: install the skill for /fine-tune",
    "mcp": "Serve agents over the Model Context Protocol",
    "schema": "JSON Schemas of the documents",
    "demo": "The whole job on real data, in six minutes on two cores",
}


class Commands(click.Group):
    """Subcommands that are imported only when called, so that --help is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand; its function has its name."""
        if cmd_name not in COMMANDS:
            near = get_close_matches(cmd_name, COMMANDS, n=1)
            if near:
                ctx.fail(f"No such command {cmd_name!r}. Did you mean {near[0]!r}?")
            return None
        module = importlib.import_module(f"finetune_exe.cli.{'evaluate' if cmd_name == 'eval' else cmd_name}")
        command = vars(module)["command"]
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the commands without importing them."""
        with formatter.section("Commands, in the order of the work"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Documentation: docs/ in the repository. Exit status: 0 ok, 2 usage, 3 a gate says no, 65 bad data, "
    "69 component missing, 70 our bug, 73 output exists or in use, 74 input/output, 75 stopped and resumable, "
    "78 too little room on the disk, 130 interrupted.",
)
@click.option("--debug", is_flag=True, envvar="FINETUNE_EXE_DEBUG", help="Show the traceback of a fault.")
@click.version_option(__version__, prog_name="fine-tune")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """FINETUNE.EXE: the fine-tuning specialist whose advice can be checked.

    \b
    fine-tune demo
    fine-tune analyze "answer questions about my bank" --data rows.csv
    fine-tune train plan.yaml
    fine-tune eval runs/plan
    """
    context.obj = debug


def main() -> None:
    """Run the command line and leave with its exit status."""
    for stream in (sys.stdout, sys.stderr):
        _never_fail(stream)
    debug = "--debug" in sys.argv or bool(os.environ.get("FINETUNE_EXE_DEBUG"))
    try:
        status = cli.main(_bullets_as_words(sys.argv[1:]), prog_name="fine-tune", standalone_mode=False)
        _leave(status if isinstance(status, int) else 0)
    except FineTuneError as fault:
        _explain(str(fault), debug=debug)
        _leave(fault.exit_status)
    except click.ClickException as fault:
        fault.show()
        _leave(fault.exit_code)
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        _leave(INTERRUPTED)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - the reader has gone; nothing to close
        _leave(IO)
    except Exception as fault:  # noqa: BLE001 - the process's edge: a bug is reported as one
        bug = FineTuneError(
            "B01",
            what=f"{type(fault).__name__}: {fault}",
            where="inside fine-tune",
            why="this is a mistake of the program, not of yours",
            fix="run again with `fine-tune --debug ...` and report the traceback",
        )
        _explain(str(bug), debug=debug)
        _leave(BUG)


def _bullets_as_words(arguments: list[str]) -> list[str]:
    """Let a task pasted as a list item ("- answer questions") be words, not an option; values of options stay."""
    before = ["", *arguments]
    return [
        words[1:].lstrip() if words[:1] == "-" and words[1:2].isspace() and not last.startswith("-") else words
        for last, words in zip(before, arguments, strict=False)
    ]


def _explain(message: str, *, debug: bool) -> None:
    if debug:
        import traceback

        traceback.print_exc()
    from finetune_exe.report.boxes import clean_lines

    for line in clean_lines(message):
        print(line, file=sys.stderr)


def _leave(status: int) -> None:
    sys.stdout.flush()
    sys.exit(status)


def _never_fail(stream: TextIO) -> None:
    """Let a terminal that cannot show a character show a stand-in."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
