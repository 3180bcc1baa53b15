"""`fine-tune forecast`."""

from __future__ import annotations

from pathlib import Path

import click

from finetune_exe.cli.surface import json_option, say, write_json


@click.command("forecast")
@click.argument("runs", metavar="RUN RUN RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--more-rows", type=click.IntRange(min=1), required=True, metavar="N", help="Training rows to be added.")
@json_option
def command(runs: tuple[Path, ...], more_rows: int, as_json: bool) -> None:
    """Say what N more rows would bring, from finished runs on different numbers of rows.

    \b
    fine-tune train plan.yaml --set data.max_rows=500 --run runs/500
    fine-tune train plan.yaml --set data.max_rows=1000 --run runs/1000
    fine-tune train plan.yaml --set data.max_rows=2000 --run runs/2000
    fine-tune forecast runs/500 runs/1000 runs/2000 --more-rows 1000
    """
    from finetune_exe.report.forecast import render_forecast
    from finetune_exe.workflow.forecast import forecast

    found = forecast(runs, more_rows=more_rows)
    if as_json:
        write_json(forecast=found)
    else:
        say(render_forecast(found))
