"""The plan as a person reads it, with the commands that carry it out."""

from __future__ import annotations

from pathlib import Path

from finetune_exe.domain.plan import Plan
from finetune_exe.errors import typed


def show_plan(
    plan: Plan, path: Path | None, *, run: Path | None = None, markdown: bool = False, explain: bool = False
) -> str:
    """Render the boxed plan with its configuration and commands.

    Args:
        plan: What was decided.
        path: Where the plan file is; None where it was not written.
        run: Folder of its run; None for the one `fine-tune train` would choose.
        markdown: Write Markdown instead of boxes.
        explain: Show every setting with its reason, what was weighed and rejected, and what would change the advice.
    """
    from finetune_exe.export.excerpt import config_excerpt
    from finetune_exe.report.plan import render_plan, render_plan_markdown

    render = render_plan_markdown if markdown else render_plan
    name = path or Path("plan.yaml")
    return render(
        plan, config=config_excerpt(plan), commands=_commands(name, run or default_run(name)), explain=explain
    )


def default_run(plan: Path) -> Path:
    """Name the run folder of a plan file: runs/NAME beside it."""
    return plan.parent / "runs" / plan.stem


def _commands(plan: Path, run: Path) -> list[str]:
    elsewhere = () if run == default_run(plan) else ("--run", run)
    return [
        typed("fine-tune", "dataset", "--plan", plan),
        typed("fine-tune", "train", plan, *elsewhere),
        typed("fine-tune", "eval", run),
        typed("fine-tune", "export", run),
        typed("fine-tune", "debug", run),
    ]
