"""`fine-tune doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from finetune_exe.cli.surface import json_option, say, view, write_json
from finetune_exe.errors import GATE


@click.command("doctor")
@click.argument("paths", nargs=-1, metavar="[RUN]...", type=click.Path(path_type=Path))
@click.option("--no-self-tests", is_flag=True, help="Only look; measure nothing on a tiny model.")
@click.option("--model", metavar="MODEL", help="Prove packing and prompts with this base model too.")
@json_option
@click.pass_context
def command(
    context: click.Context, paths: tuple[Path, ...], no_self_tests: bool, model: str | None, as_json: bool
) -> None:
    """Look at machine, packages and RUNs, and prove the numbers of the training stack in under a minute.

    Leaves with status 3 where something is wrong.

    \b
    fine-tune doctor
    fine-tune doctor runs --no-self-tests
    fine-tune doctor --model embedded
    fine-tune doctor --json > doctor.json
    """
    if model is not None and no_self_tests:
        raise click.UsageError("--model is what self-tests are made with; leave --no-self-tests out")
    from finetune_exe.report.doctor import render_checkup
    from finetune_exe.workflow.doctor import check_up

    with view(as_json=as_json) as live:
        checkup = check_up(paths, self_tests=not no_self_tests, model=model, progress=live.progress, note=live.note)
    if as_json:
        write_json(checkup=checkup, failures=list(checkup.failures))
    else:
        say(render_checkup(checkup))
    if checkup.failures:
        context.exit(GATE)
