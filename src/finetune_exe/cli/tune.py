"""`fine-tune tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from finetune_exe.cli.surface import (
    FiniteRange,
    json_option,
    overwrite_option,
    plan_not_rows,
    say,
    set_option,
    view,
    write_json,
)
from finetune_exe.errors import typed


@click.command("tune")
@click.argument("plan_path", metavar="PLAN", type=click.Path(path_type=Path), callback=plan_not_rows)
@click.option("--over", metavar="PATH,...", help="Settings to search, as in optimizer.learning_rate,method.lora_rank.  [default: the two or three that matter most]")  # fmt: skip
@click.option("--trials", type=click.IntRange(min=2), help="Different settings to try, the plan's own among them.  [default: 12]")  # fmt: skip
@click.option("--minutes", type=FiniteRange(min=0, min_open=True), help="Time for all of it: trials get shorter, then fewer, until it fits.")  # fmt: skip
@click.option("--share", type=FiniteRange(min=0, max=1, min_open=True), help="Part of the plan's steps in each trial.  [default: all, or what fits]")  # fmt: skip
@click.option("--study", "study_path", type=click.Path(path_type=Path), help="Folder of the study.  [default: studies/NAME]")  # fmt: skip
@click.option("--on", "place", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="Where trials run: here one by one, or on a Ray cluster.")  # fmt: skip
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Trials at once on Ray.")
@click.option("--resume", is_flag=True, help="Go on with the study in the folder.")
@set_option
@overwrite_option
@json_option
def command(
    plan_path: Path,
    over: str | None,
    trials: int | None,
    minutes: float | None,
    share: float | None,
    study_path: Path | None,
    place: Literal["local", "ray"],
    workers: int,
    resume: bool,
    settings: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Search better settings for PLAN within its own intervals, by training it again and again.

    \b
    fine-tune tune plan.yaml --minutes 60
    fine-tune tune plan.yaml --over optimizer.learning_rate,method.lora_rank --trials 20
    fine-tune tune plan.yaml --resume
    """
    from finetune_exe.report.tuning import render_tuning
    from finetune_exe.workflow.plans import open_plan
    from finetune_exe.workflow.tuning import StudyFolder, Wishes, tune

    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    plan = open_plan(plan_path, settings=settings)
    path = study_path or plan_path.parent / "studies" / plan_path.stem
    wishes = Wishes(
        over=tuple(name.strip() for name in over.split(",")) if over else (),
        num_trials=trials,
        seconds=None if minutes is None else 60 * minutes,
        share=share,
        place=place,
        num_workers=workers,
    )
    with view(as_json=as_json) as live:
        try:
            tuning = tune(
                plan, path, wishes, resume=resume, overwrite=overwrite, progress=live.progress, note=live.note
            )
        except KeyboardInterrupt:
            live.note(f"the trials that have ended are kept in {path}; go on with --resume")
            raise
    if as_json:
        write_json(tuning=tuning, folder=str(path))
    else:
        say(render_tuning(tuning))
        say(f"\nThe study lies in {path}.\nNext: {typed('fine-tune', 'train', StudyFolder(path).tuned)}")
