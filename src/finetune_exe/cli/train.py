"""`fine-tune train`."""

from __future__ import annotations

from pathlib import Path

import click

from finetune_exe.cli.surface import (
    json_option,
    overwrite_option,
    say,
    set_option,
    view,
    write_event,
    write_json,
)


@click.command("train")
@click.argument("plan_path", metavar="PLAN", type=click.Path(path_type=Path))
@click.option("--run", "run_path", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/NAME]")
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True), help="Stop in good order after so long.")
@set_option
@overwrite_option
@json_option
def command(
    plan_path: Path,
    run_path: Path | None,
    max_minutes: float | None,
    settings: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Prepare the data of PLAN, a plan file, and train.

    \b
    fine-tune train plan.yaml
    fine-tune train plan.yaml --run runs/second --set optimizer.learning_rate=1e-4
    fine-tune train plan.yaml --max-minutes 30 --json
    """
    from finetune_exe.report.run import render_run
    from finetune_exe.workflow.plans import open_plan
    from finetune_exe.workflow.reports import default_run
    from finetune_exe.workflow.runs import train_plan

    plan = open_plan(plan_path, settings=settings)
    path = run_path or default_run(plan_path)
    with view(as_json=as_json) as live:
        summary = train_plan(
            plan,
            path,
            overwrite=overwrite,
            max_seconds=None if max_minutes is None else 60 * max_minutes,
            emit=write_event if as_json else live,
            progress=live.progress,
            note=live.note,
        )
    if as_json:
        write_json(run=summary, folder=str(path))
    else:
        say(render_run(summary))
        say(f"\nThe run lies in {path}; what was learned in {path / 'model'}. Next: fine-tune eval {path}")
