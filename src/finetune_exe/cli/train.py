"""`fine-tune train`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from finetune_exe.cli.surface import (
    FiniteRange,
    event_lines,
    json_option,
    overwrite_option,
    plan_not_rows,
    say,
    set_option,
    view,
    write,
    write_json,
)
from finetune_exe.errors import OK, typed

if TYPE_CHECKING:
    from finetune_exe.domain.plan import Plan

TRACKER_NAMES = ("tensorboard", "wandb", "trackio")
LAUNCHES = ("local", "torchrun", "slurm", "ray", "skypilot")
OF_THE_LAUNCH = {"plan_path", "run_path", "launch", "processes", "machines", "dry_run"}
"""Parameters that are for the launch, and not handed on to the processes it starts."""


@click.command("train")
@click.argument("plan_path", metavar="PLAN", type=click.Path(path_type=Path), callback=plan_not_rows)
@click.option("--run", "run_path", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/NAME]")
@click.option("--max-minutes", type=FiniteRange(min=0, min_open=True), help="Stop in good order after so long.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run, exactly where it was.")
@click.option("--allow-plan-change", is_flag=True, help="Resume with changed settings that leave the steps as they are.")  # fmt: skip
@click.option("--allow-data-change", is_flag=True, help="Resume on the rows as prepared though their files changed.")
@click.option("--launch", type=click.Choice(LAUNCHES), help="How to start.  [default: local, or torchrun for several processes]")  # fmt: skip
@click.option("--processes", type=click.IntRange(min=1), metavar="N", help="Train in N processes, each with its GPU.  [default: as the plan says]")  # fmt: skip
@click.option("--machines", type=click.IntRange(min=1), default=1, metavar="M", help="Share the processes out to M machines.")  # fmt: skip
@click.option("--track", "trackers", type=click.Choice(TRACKER_NAMES), multiple=True, help="Show the run in this program too. May be given again.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only print what the launch would run.")
@set_option
@overwrite_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    plan_path: Path,
    run_path: Path | None,
    max_minutes: float | None,
    resume: bool,
    allow_plan_change: bool,
    allow_data_change: bool,
    launch: str | None,
    processes: int | None,
    machines: int,
    trackers: tuple[str, ...],
    dry_run: bool,
    settings: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Prepare the data of PLAN, a plan file, and train.

    \b
    fine-tune train plan.yaml
    fine-tune train plan.yaml --run runs/second --set optimizer.learning_rate=1e-4
    fine-tune train plan.yaml --launch torchrun --processes 2
    fine-tune train plan.yaml --launch slurm --processes 16 --machines 2 --dry-run
    fine-tune train plan.yaml --max-minutes 30 --json
    fine-tune train plan.yaml --resume
    """
    from finetune_exe.workflow.plans import open_plan
    from finetune_exe.workflow.reports import default_run
    from finetune_exe.workflow.together import is_one_of_several, spread_settings

    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    plan = open_plan(plan_path, settings=settings)
    allowed = {"--allow-plan-change": allow_plan_change, "--allow-data-change": allow_data_change}
    path = run_path or default_run(plan_path)

    def here() -> int:
        _train(plan, path, as_json=as_json, trackers=trackers, overwrite=overwrite, resume=resume,
               allowed_changes=[flag for flag, given in allowed.items() if given],
               max_seconds=None if max_minutes is None else 60 * max_minutes)  # fmt: skip
        return OK

    if is_one_of_several():
        if launch:
            raise click.UsageError("--launch starts processes, and this is one of several already (WORLD_SIZE is set)")
        here()
        return
    wanted = processes or plan.parallelism.num_gpus
    way = _way(launch, wanted, machines)
    if way == "local" and not dry_run:
        here()
        return
    from finetune_exe.workflow.launchers import LAUNCHERS, Job

    spread = spread_settings(plan, wanted)
    if spread:
        plan = open_plan(plan_path, settings=(*settings, *spread))
    job = Job(
        plan=plan_path, run=path, processes=wanted, machines=machines, hardware=plan.hardware, here=here,
        options=(*_handed_on(context), *(word for setting in spread for word in ("--set", setting))),
    )  # fmt: skip
    if dry_run:
        script = LAUNCHERS[way].script(job).rstrip("\n")
        if as_json:
            write_json(launch=way, script=script)
        else:
            write(script)
        return
    with view(as_json=as_json) as live:
        status = LAUNCHERS[way].launch(job, live.note)
    context.exit(status)


def _way(launch: str | None, processes: int, machines: int) -> str:
    """Choose how to start, where it was not said.

    Raises:
        click.UsageError: That way cannot start so many processes on so many machines.
    """
    way = launch or ("local" if processes == 1 else "torchrun")
    here = way in ("local", "torchrun")
    if processes % machines or (machines > 1 and here) or (processes > 1 and way == "local"):
        raise click.UsageError(f"--launch {way} cannot start {processes} processes on {machines} machines")
    return way


def _train(plan: Plan, path: Path, *, as_json: bool, trackers: tuple[str, ...], **options: Any) -> None:
    from finetune_exe.report.run import render_run
    from finetune_exe.workflow.together import train_together
    from finetune_exe.workflow.trackers import tracked

    with (
        view(as_json=as_json) as live,
        tracked(trackers, plan, path, emit=event_lines(live.note) if as_json else live, note=live.note) as emit,
    ):
        summary = train_together(plan, path, **options, emit=emit, progress=live.progress, note=live.note)
    if summary is None:
        return
    if as_json:
        write_json(run=summary, folder=str(path))
    else:
        say(render_run(summary))
        say(
            f"\nThe run lies in {path}; what was learned in {path / 'model'}.\nNext: {typed('fine-tune', 'eval', path)}"
        )
        if summary.stop_reason == "out_of_time" and summary.num_steps < summary.planned_steps:
            from finetune_exe.training.resume import resume_command

            say(f"To go on: {resume_command(path)}")


def _handed_on(context: click.Context) -> Iterator[str]:
    """Write the options of the command that the processes get too, as they would be typed."""
    for parameter in context.command.params:
        value: Any = context.params.get(parameter.name or "")
        if parameter.name in OF_THE_LAUNCH or value is None or value is False:
            continue
        name = parameter.opts[0]
        if value is True:
            yield name
        else:
            for each in value if isinstance(value, tuple) else (value,):
                yield from (name, str(each))
