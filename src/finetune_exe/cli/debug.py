"""`fine-tune debug`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from finetune_exe.cli.surface import json_option, say, write_json


@click.command("debug")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--context", "sentence", metavar="TEXT", help="What you saw, in your own words.")
@json_option
def command(paths: tuple[str, ...], sentence: str | None, as_json: bool) -> None:
    """Diagnose failed or odd runs from PATHs: run folders, logs, tracebacks, trainer_state.json; `-` reads stdin.

    \b
    fine-tune debug runs/plan
    fine-tune debug train.log --context "loss is 0 from the first step"
    some-trainer 2>&1 | fine-tune debug -
    """
    from finetune_exe.diagnosis.diagnose import diagnose
    from finetune_exe.report.diagnosis import render_diagnosis

    if not paths and not sentence:
        raise click.UsageError("give a PATH, - for standard input, or --context")
    diagnosis = diagnose([Path(path) for path in paths], stdin=sys.stdin.buffer, context=sentence)
    if as_json:
        write_json(**diagnosis.model_dump(mode="json", by_alias=True))
    else:
        say(render_diagnosis(diagnosis))
