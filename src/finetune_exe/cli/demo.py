"""`fine-tune demo`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from finetune_exe.atomic import require_new
from finetune_exe.cli.surface import FiniteRange, json_option, overwrite_option, say, view, write_json
from finetune_exe.units import format_duration
from finetune_exe.workflow.run_folder import RunFolder
from finetune_exe.workflow.runs import evaluate_run, train_plan

OVERTIME = 1.15
"""Training stops in good order after so many times its predicted duration."""
CLOSING_SECONDS = 12.0
"""For loading both models once more and writing the reports."""


@click.command("demo")
@click.option("--run", "run_path", type=click.Path(path_type=Path), help="Folder of the run.  [default: demo-run, demo-run-2, ...]")  # fmt: skip
@click.option("--minutes", type=FiniteRange(min=1), default=6.0, show_default=True, help="Time for the whole job.")
@overwrite_option
@json_option
def command(run_path: Path | None, minutes: float, overwrite: bool, as_json: bool) -> None:
    """Plan, prepare, train and evaluate on real data: a small model learns to write docstrings.

    \b
    fine-tune demo
    fine-tune demo --minutes 20 --run long-demo

    The model is SmolLM2-135M-Instruct; the data are functions of this Python's own standard library. Rows and steps
    are sized by a short probe, so that a slower machine gets a shorter run, not a longer wait.
    """
    from finetune_exe.domain.dataset import PreparedDataset
    from finetune_exe.report.dataset import render_dataset
    from finetune_exe.report.evaluation import render_evaluation
    from finetune_exe.report.run import render_run
    from finetune_exe.workflow.demo import plan_demo, trim_evaluation
    from finetune_exe.workflow.reports import show_plan

    started = time.monotonic()
    path = run_path or _free_name()
    require_new(path, overwrite=overwrite)
    run = RunFolder(path)

    def show(text: str) -> None:
        if not as_json:
            say(text + "\n")

    with view(as_json=as_json) as live:
        demo = plan_demo(minutes=minutes, note=live.note)
        plan = demo.plan
        show(show_plan(plan, run.plan, run=path))

        def prepared(manifest: PreparedDataset) -> None:
            show(render_dataset(manifest))

        summary = train_plan(
            plan, path, overwrite=overwrite, emit=live, progress=live.progress, note=live.note, prepared=prepared,
            max_seconds=OVERTIME * demo.size.train_seconds,
        )  # fmt: skip
        show(render_run(summary))
        left = 60 * minutes - (time.monotonic() - started) - CLOSING_SECONDS
        evaluation = evaluate_run(
            path, settings=trim_evaluation(demo, summary, seconds_left=left), progress=live.progress, note=live.note
        )
    if as_json:
        write_json(plan=plan, run=summary, evaluation=evaluation, verdict=evaluation.verdict, folder=str(path))
        return
    show(render_evaluation(evaluation))
    say(_where(run, time.monotonic() - started))


def _free_name() -> Path:
    numbered = (Path(f"demo-run-{number}") for number in range(2, 10_000))
    return Path("demo-run") if not Path("demo-run").exists() else next(path for path in numbered if not path.exists())


def _where(run: RunFolder, seconds: float) -> str:
    lines = (
        (run.plan, "the plan; edit it and `fine-tune train` it"),
        (run.dataset, "the prepared data and why rows were dropped"),
        (run.model, "what was learned; any PEFT program loads it"),
        (run.events, "what happened, step by step"),
        (run.evaluation, "the evaluation"),
        (run.report, "all of the above to read, as Markdown"),
    )
    width = max(len(str(path)) for path, _ in lines)
    listed = "\n".join(f"  {path!s:<{width}}  {what}" for path, what in lines)
    return f"WHERE EVERYTHING LIES\n{listed}\n\nThe whole job took {format_duration(seconds)}."
