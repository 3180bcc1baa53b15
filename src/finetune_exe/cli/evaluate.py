"""`fine-tune eval`."""

from __future__ import annotations

from pathlib import Path

import click

from finetune_exe.cli.surface import json_option, say, set_option, view, write_json
from finetune_exe.errors import GATE


@click.command("eval")
@click.argument("run_path", metavar="RUN", type=click.Path(path_type=Path))
@set_option
@click.option("--gate", is_flag=True, help="Leave with status 3 unless the model is ready.")
@json_option
@click.pass_context
def command(context: click.Context, run_path: Path, settings: tuple[str, ...], gate: bool, as_json: bool) -> None:
    """Compare the model of RUN, a run folder, with its base on rows that were held out.

    \b
    fine-tune eval runs/plan
    fine-tune eval runs/plan --set evaluation.max_generations=300
    fine-tune eval runs/plan --gate --json > verdict.json
    """
    from finetune_exe.report.evaluation import render_evaluation
    from finetune_exe.workflow.plans import edit_plan
    from finetune_exe.workflow.runs import evaluate_run, open_run

    for setting in settings:
        if not setting.startswith("evaluation."):
            raise click.UsageError(f"--set {setting}: only evaluation settings can be changed after training")
    plan, _ = open_run(run_path)
    with view(as_json=as_json) as live:
        evaluation = evaluate_run(
            run_path, settings=edit_plan(plan, settings) if settings else None, progress=live.progress, note=live.note
        )
    if as_json:
        write_json(evaluation=evaluation, verdict=evaluation.verdict)
    else:
        say(render_evaluation(evaluation))
    if gate and evaluation.verdict != "ready":
        context.exit(GATE)
