"""The `fine-tune` command: finds the subcommand, and turns every fault into a message and an exit status."""

from __future__ import annotations

import errno
import importlib
import io
import os
import shlex
import sys
from contextlib import suppress
from difflib import get_close_matches

import click

from finetune_exe import __version__
from finetune_exe.atomic import STANDARD_OUTPUT, cannot_write
from finetune_exe.errors import INTERRUPTED, IO, OK, USAGE, FineTuneError

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
_MENDED = {
    errno.ENAMETOOLONG: "give a shorter path: a name may have 255 bytes, a whole path 4,095",
    errno.ELOOP: "mend the link, which leads round in a circle, or name the file itself",
    errno.ENOTDIR: "check the path: a part of it that should be a folder is a file",
    errno.EISDIR: "name a file in that folder",
    errno.EMFILE: "allow more open files: ulimit -n 4096",
}
"""How a path that the operating system refuses is mended, by the number of the refusal."""


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
            if os.path.exists(cmd_name):
                path = shlex.quote(cmd_name)
                ctx.fail(
                    f"{cmd_name!r} is a file, not a command. To look at its rows:\n  fine-tune dataset --check {path}\n"
                    f'To plan with them:\n  fine-tune analyze "what the model shall do" --data {path}'
                )
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

    You have rows to learn from, in rows.jsonl (or CSV, Parquet, text, ...). Then, in this order:

    \b
    fine-tune analyze "answer mails" --data rows.jsonl   says how, in plan.yaml
    fine-tune train plan.yaml                            trains, in runs/plan
    fine-tune eval runs/plan                             is it better now?
    fine-tune export runs/plan                           the model, to be used
    fine-tune debug runs/plan                            what went wrong?

    You have none yet: fine-tune demo does all of it, on rows that are on this machine.
    """
    context.obj = debug


def main() -> None:
    """Run the command line and leave with its exit status."""
    _prepare_streams()
    debug = "--debug" in sys.argv or bool(os.environ.get("FINETUNE_EXE_DEBUG"))
    status = _run(sys.argv[1:], debug=debug)
    try:
        sys.stdout.flush()
    except OSError as fault:
        if status == OK and not isinstance(fault, BrokenPipeError):
            _explain(str(cannot_write(fault, STANDARD_OUTPUT)), debug=debug)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the rest of it goes nowhere
        status = status or IO
    sys.exit(status)


def _run(arguments: list[str], *, debug: bool) -> int:
    """Run a command line, turn every fault into a message, and give the exit status."""
    try:
        status = cli.main(_bullets_as_words(arguments), prog_name="fine-tune", standalone_mode=False)
        return status if isinstance(status, int) else OK
    except FineTuneError as fault:
        _explain(str(fault), debug=debug)
        return fault.exit_status
    except click.ClickException as fault:
        with suppress(OSError):
            fault.show()
        return fault.exit_code
    except (KeyboardInterrupt, click.Abort):
        _tell("interrupted")
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):  # where the reader of a pipe has gone, click leaves by itself
        return IO
    except Exception as fault:  # noqa: BLE001 - the process's edge: a bug is reported as one
        odd = next(filter(_is_no_text, arguments), None)
        if odd is not None:
            _tell(f"Error: an argument is no text in UTF-8, which all that is written is: {odd!a}")
            return USAGE
        told = _refusal(fault) or FineTuneError(
            "B01",
            what=f"{type(fault).__name__}: {fault}",
            where="inside fine-tune",
            why="this is a mistake of the program, not of yours",
            fix="run again with `fine-tune --debug ...` and report the traceback",
        )
        _explain(str(told), debug=debug)
        return told.exit_status


def _refusal(fault: Exception) -> FineTuneError | None:
    """Say which path the operating system refuses and why, if that is the fault."""
    if isinstance(fault, ValueError) and "embedded null" in str(fault):
        place, reason, fix = "a path", "it holds a zero byte, which no name of a file may", "write the path anew"
    elif isinstance(fault, OSError) and fault.strerror and isinstance(fault.filename, str | bytes):
        place, reason = os.fsdecode(fault.filename), fault.strerror
        fix = _MENDED.get(fault.errno or 0, "check the path, and whether you may read it")
    else:
        return None
    return FineTuneError("I02", what="a path cannot be used", where=place, why=reason, fix=fix)


def _is_no_text(words: str) -> bool:
    """Say whether an argument, as the name of a file may, holds bytes that stand for no character."""
    return any("\ud800" <= character <= "\udfff" for character in words)


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

        _tell(traceback.format_exc())
    from finetune_exe.report.boxes import clean_lines

    _tell("\n".join(clean_lines(message)))


def _tell(text: str) -> None:
    """Write on stderr; where nobody listens there is nobody to be told."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _prepare_streams() -> None:
    """Let streams that are closed lead nowhere, and show a stand-in where a terminal cannot show a character."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # it takes the number that is free, which else the next file would get
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
