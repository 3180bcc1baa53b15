"""`fine-tune analyze`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from finetune_exe.atomic import require_new
from finetune_exe.cli.surface import (
    FiniteRange,
    cpu_option,
    gpu_option,
    json_option,
    one_sentence,
    overwrite_option,
    remark,
    say,
    set_option,
    task_in_words,
    vram_option,
    wished_hardware,
    write_json,
)
from finetune_exe.domain.method_kinds import METHOD_NAMES, MethodKind
from finetune_exe.domain.task import Preset, TaskSpec, TextTask


@click.command("analyze", context_settings={"allow_extra_args": True})
@click.argument("task", callback=task_in_words)
@click.option("--task-type", type=click.Choice(get_args(TextTask)), help="What kind of task it is; read out of data and sentence otherwise.")  # fmt: skip
@click.option("--data", "data", multiple=True, metavar="PATH", help="Rows to learn from: a file, folder or glob. May be given again.")  # fmt: skip
@click.option("--rows", "num_rows", type=click.IntRange(min=1), metavar="N", help="Rows that there will be, while there are no data.")  # fmt: skip
@click.option("--model", metavar="MODEL", help='Base model: hub id, folder, GGUF file, "embedded", or a family such as "qwen3".')  # fmt: skip
@gpu_option
@vram_option
@cpu_option
@click.option("--method", type=click.Choice(list(METHOD_NAMES)), help="Training method; chosen for you otherwise.")
@click.option("--preset", type=click.Choice(get_args(Preset)), default="auto", show_default=True)  # fmt: skip
@click.option("--keep-abilities", is_flag=True, help="What the model can do today matters as much as the new task.")
@click.option("--permissive-license", is_flag=True, help="Suggest only models under Apache-2.0, MIT or BSD.")
@click.option("--budget-usd", type=FiniteRange(min=0, min_open=True), metavar="USD", help="Most the training may cost.")  # fmt: skip
@click.option("--hours", type=FiniteRange(min=0, min_open=True), help="Longest the training may take.")
@set_option
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write the plan.  [default: plan.yaml]")
@overwrite_option
@click.option("--probe", is_flag=True, help="Time a few steps of the training on this machine; on a processor, where its model is not here, matrix products.")  # fmt: skip
@click.option("--calibrate", is_flag=True, help="Correct the predictions by what finished runs on this machine measured.")  # fmt: skip
@click.option("--explain", is_flag=True, help="Show every setting with its reason, what was weighed and rejected, and what would change the advice.")  # fmt: skip
@click.option("--markdown", is_flag=True, help="Print the plan as Markdown.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    task: str,
    task_type: TextTask | None,
    data: tuple[str, ...],
    num_rows: int | None,
    model: str | None,
    gpu: str | None,
    vram: float | None,
    cpu: bool,
    method: MethodKind | None,
    preset: Preset,
    keep_abilities: bool,
    permissive_license: bool,
    budget_usd: float | None,
    hours: float | None,
    settings: tuple[str, ...],
    output: Path | None,
    overwrite: bool,
    probe: bool,
    calibrate: bool,
    explain: bool,
    markdown: bool,
    as_json: bool,
) -> None:
    """Recommend an approach to TASK, a sentence in your own words.

    A model, hardware, a method, and limits of time and money may stand in the sentence or be given as options.

    \b
    fine-tune analyze "fine-tune Llama 3 8B with QLoRA to answer support mails, on one RTX 4090"
    fine-tune analyze "classify bank questions by intent" --data banking.csv
    fine-tune analyze "answer support mails" --gpu "RTX 4090" --model Qwen/Qwen2.5-7B-Instruct
    fine-tune analyze "write docstrings" --data rows.jsonl --set schedule.epochs=2 -o my.yaml
    """
    from finetune_exe.domain.plan_yaml import write_plan
    from finetune_exe.planning.task import DeclinedTaskError
    from finetune_exe.workflow.plans import make_plan
    from finetune_exe.workflow.reports import show_plan

    if context.args:
        raise click.UsageError(one_sentence(task, context.args))
    if data and num_rows:
        raise click.UsageError("--rows is for plans without --data, whose rows are counted")
    path = output or (None if as_json else Path("plan.yaml"))
    if path is not None:
        require_new(path, overwrite=overwrite)
    spec = TaskSpec(
        description=task, task_type=task_type, data_paths=data, model=model, method=method, preset=preset,
        gpu=wished_hardware(gpu=gpu, vram=vram, cpu=cpu), keep_abilities=keep_abilities,
        permissive_license=permissive_license, budget_usd=budget_usd, hours=hours, num_rows=num_rows,
    )  # fmt: skip
    try:
        plan = make_plan(spec, settings=settings, calibrate=calibrate, probe=probe)
    except DeclinedTaskError as declined:
        if as_json:
            write_json(plan={"task": declined.task.model_dump(mode="json")}, declined=declined.why)
        raise
    if path is not None:
        write_plan(plan, path)
    if as_json:
        write_json(plan=plan)
    else:
        say(show_plan(plan, path, markdown=markdown, explain=explain))
        remark(f"wrote {path}; change what you like in it")
