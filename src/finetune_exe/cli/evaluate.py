"""`fine-tune eval`."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from finetune_exe.cli.surface import FiniteRange, json_option, say, view, write_json
from finetune_exe.errors import GATE, typed


@click.command("eval")
@click.argument("run_path", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Change how it is evaluated: evaluation.max_generations=300, say, or precision.base_dtype=float32. May be given again.")  # fmt: skip
@click.option("--suites", type=click.Path(path_type=Path), metavar="FOLDER", help="Ask the regression suites of this folder too: files of JSON lines.")  # fmt: skip
@click.option("--suite-items", type=click.IntRange(min=2), default=100, show_default=True, help="Items taken of each suite.")  # fmt: skip
@click.option("--harness", "tasks", multiple=True, metavar="TASK", help="Ask a task of lm-evaluation-harness too, such as arc_easy. May be given again.")  # fmt: skip
@click.option("--harness-tasks", type=click.Path(path_type=Path), metavar="FOLDER", help="Tasks of your own for --harness, as its YAML files.")  # fmt: skip
@click.option("--answer-within", type=FiniteRange(min=0, min_open=True), metavar="SECONDS", help="Time of an answer that is quick enough here.")  # fmt: skip
@click.option("--endpoint", nargs=2, metavar="URL MODEL", help="Hold the tuned model against a served one, too: an OpenAI-compatible address that ends in /v1, and the model's name there.")  # fmt: skip
@click.option("--judge", nargs=2, metavar="URL MODEL", help="Let a served model choose between base and tuned answers; it is measured first.")  # fmt: skip
@click.option("--gate", is_flag=True, help="Leave with status 3 unless the model is ready.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    run_path: Path,
    settings: tuple[str, ...],
    suites: Path | None,
    suite_items: int,
    tasks: tuple[str, ...],
    harness_tasks: Path | None,
    answer_within: float | None,
    endpoint: tuple[str, str] | None,
    judge: tuple[str, str] | None,
    gate: bool,
    as_json: bool,
) -> None:
    """Compare the model of RUN, a run folder, with its base on rows that were held out.

    \b
    fine-tune eval runs/plan
    fine-tune eval runs/plan --set evaluation.max_generations=300
    fine-tune eval runs/plan --suites suites/ --suite-items 200
    fine-tune eval runs/plan --harness arc_easy --harness piqa
    fine-tune eval runs/plan --endpoint http://localhost:8000/v1 my-model
    fine-tune eval runs/plan --gate --json > verdict.json
    """
    from finetune_exe.report.comparison import comparison_contract, render_comparison
    from finetune_exe.report.evaluation import render_evaluation
    from finetune_exe.report.judged import judge_contract, render_judged
    from finetune_exe.workflow.plans import edit_plan
    from finetune_exe.workflow.run_folder import open_run
    from finetune_exe.workflow.runs import evaluate_run
    from finetune_exe.workflow.served import compare_served, endpoint_of, judge_run, reach

    for setting in settings:
        if not setting.startswith(("evaluation.", "precision.base_dtype=")):
            raise click.UsageError(
                f"--set {setting}: only evaluation settings and precision.base_dtype can be changed after training"
            )
    if harness_tasks is not None and not tasks:
        raise click.UsageError("--harness-tasks goes with --harness TASK: it says where the task is found")
    if context.get_parameter_source("suite_items") is ParameterSource.COMMANDLINE and suites is None and not tasks:
        raise click.UsageError("--suite-items goes with --suites FOLDER or --harness TASK")
    edited = edit_plan(open_run(run_path)[0], settings) if settings else None
    for server in filter(None, (endpoint, judge)):
        reach(endpoint_of(*server))
    with view(as_json=as_json) as live:
        evaluation = evaluate_run(
            run_path, settings=edited, suites=suites, suite_items=suite_items,
            tasks=tasks, task_folder=harness_tasks, answer_within=answer_within, progress=live.progress, note=live.note,
        )  # fmt: skip
    if not as_json:
        say(render_evaluation(evaluation))
    with view(as_json=as_json) as live:
        served = compare_served(run_path, endpoint_of(*endpoint), progress=live.progress) if endpoint else None
        judged = judge_run(run_path, endpoint_of(*judge), progress=live.progress) if judge else None
    if as_json:
        write_json(
            evaluation=evaluation, verdict=evaluation.verdict, readiness_share=evaluation.readiness_share,
            failed=[check.model_dump() for check in evaluation.readiness if check.passed is False],
            **({} if served is None else {"served": comparison_contract(served)}),
            **({} if judged is None else {"judge": judge_contract(*judged)}),
        )  # fmt: skip
    else:
        if served is not None:
            say(render_comparison(served))
        if judged is not None:
            say(render_judged(*judged))
        say(f"\nNext: {_next(evaluation.verdict, run_path)}")
    if gate and evaluation.verdict != "ready":
        context.exit(GATE)


def _next(verdict: str, run: Path) -> str:
    """Say what follows from a verdict; where nobody can say, the user may know."""
    if verdict == "cannot say":
        anyway = typed("fine-tune", "export", run, "--anyway", "REASON")
        return f"train on more rows, or test on more; where you know that it is good enough: {anyway}"
    return typed("fine-tune", "export" if verdict == "ready" else "debug", run)
