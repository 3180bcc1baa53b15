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
@click.option("--resume", is_flag=True, help="Go on with an interrupted run, exactly where it was.")
@click.option(
    "--allow-plan-change", is_flag=True, help="Resume with changed settings that leave the steps as they are."
)
@click.option("--allow-data-change", is_flag=True, help="Resume on the rows as prepared though their files changed.")
@set_option
@overwrite_option
@json_option
def command(
    plan_path: Path,
    run_path: Path | None,
    max_minutes: float | None,
    resume: bool,
    allow_plan_change: bool,
    allow_data_change: bool,
    settings: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Prepare the data of PLAN, a plan file, and train.

    \b
    fine-tune train plan.yaml
    fine-tune train plan.yaml --run runs/second --set optimizer.learning_rate=1e-4
    fine-tune train plan.yaml --max-minutes 30 --json
    fine-tune train plan.yaml --resume
    """
    from finetune_exe.report.run import render_run
    from finetune_exe.workflow.plans import open_plan
    from finetune_exe.workflow.reports import default_run
    from finetune_exe.workflow.runs import train_plan

    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    plan = open_plan(plan_path, settings=settings)
    allowed = {"--allow-plan-change": allow_plan_change, "--allow-data-change": allow_data_change}
    path = run_path or default_run(plan_path)
    with view(as_json=as_json) as live:
        summary = train_plan(
            plan,
            path,
            overwrite=overwrite,
            resume=resume,
            allowed_changes=[flag for flag, given in allowed.items() if given],
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
