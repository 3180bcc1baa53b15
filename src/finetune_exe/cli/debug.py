"""`fine-tune debug`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from finetune_exe.atomic import require_new
from finetune_exe.cli.surface import json_option, overwrite_option, say, write, write_json


@click.command("debug")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--context", "sentence", metavar="TEXT", help="What you saw, in your own words.")
@click.option("--patch", is_flag=True, help="Write the change to the plan or the tool's configuration as a diff, and nothing else.")  # fmt: skip
@click.option("--apply", "target", type=click.Path(path_type=Path, dir_okay=False), help="Write the mended plan to this file, and what it is expected to take.")  # fmt: skip
@click.option("--markdown", is_flag=True, help="Write Markdown for an issue, without names, paths and tokens.")
@click.option("--probe", is_flag=True, help="Look into a run of ours with its model and data, in about a minute.")
@overwrite_option
@json_option
def command(
    paths: tuple[str, ...],
    sentence: str | None,
    patch: bool,
    target: Path | None,
    markdown: bool,
    probe: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Diagnose failed or odd runs of any program.

    PATHs are run folders, logs, tracebacks, trainer_state.json, TensorBoard events, configurations, adapters, answers
    as JSON lines, or folders of these; `-` reads stdin.

    \b
    fine-tune debug runs/plan
    fine-tune debug train.log config.yaml --patch
    fine-tune debug train.log --context "loss is 0 from the first step"
    some-trainer 2>&1 | fine-tune debug -
    """
    from finetune_exe.report.diagnosis import render_diagnosis, render_diagnosis_markdown
    from finetune_exe.workflow.debugging import apply_patch, debug, patch_text, redacted

    if not paths and not sentence:
        raise click.UsageError("give a PATH, - for standard input, or --context")
    if sum((patch, target is not None, markdown, as_json)) > 1:
        raise click.UsageError("--patch, --apply, --markdown and --json exclude each other")
    if target is not None:
        require_new(target, overwrite=overwrite)
    debugged = debug([Path(path) for path in paths], stdin=sys.stdin.buffer, context=sentence, probe=probe)
    if patch:
        write(patch_text(debugged), end="")
    elif target is not None:
        say(apply_patch(debugged, target))
    elif markdown:
        say(render_diagnosis_markdown(redacted(debugged.diagnosis)))
    elif as_json:
        write_json(**debugged.diagnosis.model_dump(mode="json", by_alias=True))
    else:
        say(render_diagnosis(debugged.diagnosis))
