"""`fine-tune config`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from finetune_exe.atomic import require_new, write_file
from finetune_exe.cli.surface import (
    cpu_option,
    gpu_option,
    json_option,
    overwrite_option,
    remark,
    set_option,
    task_in_words,
    vram_option,
    wished_hardware,
    write,
    write_json,
)
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.task import TaskSpec
from finetune_exe.errors import typed

if TYPE_CHECKING:
    from finetune_exe.workflow.carrying import CarriedPlan


@click.command("config")
@click.argument("model", required=False)
@click.option("--plan", "plan_path", type=click.Path(path_type=Path), help="Take everything from this plan.")
@click.option("--from", "source", type=click.Path(path_type=Path), metavar="FILE", help="Take everything from this configuration of another trainer, or training script.")  # fmt: skip
@click.option("--task", default="follow instructions", show_default=True, callback=task_in_words, help="What the model shall learn, in a sentence.")  # fmt: skip
@click.option("--data", "data", multiple=True, metavar="PATH", help="Rows to learn from. May be given again.")
@click.option("--to", "target", default="plan", show_default=True, metavar="TARGET", help="plan, python (a script on transformers and PEFT alone), trl, unsloth, axolotl, llamafactory, ms-swift, torchtune, litgpt, mlx or openai.")  # fmt: skip
@gpu_option
@vram_option
@cpu_option
@set_option
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write, instead of standard output; a folder where the trainer wants several.")  # fmt: skip
@overwrite_option
@json_option
def command(
    model: str | None,
    plan_path: Path | None,
    source: Path | None,
    task: str,
    data: tuple[str, ...],
    target: str,
    gpu: str | None,
    vram: float | None,
    cpu: bool,
    settings: tuple[str, ...],
    output: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a training configuration for MODEL, of a plan, or of another trainer's file, for this or another trainer.

    \b
    fine-tune config Qwen/Qwen2.5-0.5B-Instruct --gpu "RTX 4090"
    fine-tune config --plan plan.yaml --to trl -o train_trl.py
    fine-tune config embedded --data rows.jsonl --to python > train.py
    fine-tune config --from axolotl.yaml -o plan.yaml
    """
    from finetune_exe.export.targets import find_exporter

    exporter = find_exporter(target)
    hardware = wished_hardware(gpu=gpu, vram=vram, cpu=cpu)
    carried = None
    if source is not None:
        carried = _carried(source, task, hardware, settings, others=bool(model or plan_path or data))
    plan = carried.plan if carried else _plan(model, plan_path, task, data, hardware, settings)
    files = exporter.export(plan)
    if plan_path is not None and str(plan_path).isprintable():
        told = f"--plan {typed(plan_path)}"
        files = tuple(replace(file, text=file.text.replace("--plan plan.yaml", told)) for file in files)
    if output is not None:
        places = [output] if len(files) == 1 and not output.is_dir() else [output / file.name for file in files]
        for place in places:
            require_new(place, overwrite=overwrite)
        for place, file in zip(places, files, strict=True):
            write_file(place, file.text.encode())
    if as_json:
        said = {} if carried is None else {
            "not_carried_over": [entry._asdict() for entry in carried.left],
            "review": carried.review.model_dump(mode="json"),
        }  # fmt: skip
        write_json(target=exporter.name, files={file.name: file.text for file in files}, plan=plan, **said)
    elif output is None:
        for file in files:
            write(file.text.rstrip("\n"))
    else:
        remark(f"wrote {output}: {exporter.describe}")


def _plan(
    model: str | None,
    plan_path: Path | None,
    task: str,
    data: tuple[str, ...],
    hardware: str | None,
    settings: tuple[str, ...],
) -> Plan:
    from finetune_exe.workflow.plans import make_plan, open_plan

    if plan_path is None:
        if model is not None and model.endswith((".yaml", ".yml")) and Path(model).is_file():
            raise click.UsageError(
                f"{model} is no model: a plan goes with --plan, the file of another trainer with --from"
            )
        return make_plan(TaskSpec(description=task, data_paths=data, model=model, gpu=hardware), settings=settings)
    if model or data or hardware:
        raise click.UsageError("--plan says all of it; use --set to change a part")
    return open_plan(plan_path, settings=settings)


def _carried(source: Path, task: str, hardware: str | None, settings: tuple[str, ...], *, others: bool) -> CarriedPlan:
    """Make a plan of another trainer's file, and say on stderr what is wrong with it and what stays behind."""
    from finetune_exe.report.review import show_reviews
    from finetune_exe.workflow.carrying import carry_plan

    if others:
        raise click.UsageError("--from says all of it; use --set to change a part")
    carried = carry_plan(source, task=task, hardware=hardware, settings=settings)
    if carried.review.findings:
        remark(show_reviews([carried.review]))
    remark(f"{carried.num_carried} settings carried over from {source} ({carried.title})")
    if carried.left:
        remark("not carried over:")
    for entry in carried.left:
        remark(f"  {source}:{entry.line}: {entry.key}: {entry.reason}")
    return carried
