"""`fine-tune estimate`."""

from __future__ import annotations

from pathlib import Path

import click

from finetune_exe.cli.surface import (
    cpu_option,
    gpu_option,
    json_option,
    say,
    set_option,
    vram_option,
    wished_hardware,
    write,
    write_json,
)
from finetune_exe.domain.json_text import json_line
from finetune_exe.domain.method_kinds import METHOD_NAMES, MethodKind


@click.command("estimate")
@click.option("--runs", "runs_path", type=click.Path(path_type=Path), help="Estimate every recorded run of this file, one JSON object a line.")  # fmt: skip
@click.option("--plan", "plan_path", type=click.Path(path_type=Path), help="Estimate the run of this plan, as it is or as the other options change it.")  # fmt: skip
@click.option("--model", metavar="MODEL", help='Base model: hub id, folder, or a name such as "llama 3.1 8b".')
@gpu_option
@vram_option
@cpu_option
@click.option("--method", type=click.Choice(list(METHOD_NAMES)), help="Training method.  [default: lora]")
@click.option("--rank", type=click.IntRange(min=1), help="Rank of the adapters.  [default: 16]")
@click.option("--micro-batch-size", type=click.IntRange(min=1), help="Rows in one pass.  [default: 1]")
@click.option("--length", type=click.IntRange(min=8), help="Tokens of each row.  [default: 1024]")
@click.option("--checkpointing/--no-checkpointing", default=None, help="Whether activations are computed again.")
@set_option
@json_option
def command(
    runs_path: Path | None,
    plan_path: Path | None,
    model: str | None,
    gpu: str | None,
    vram: float | None,
    cpu: bool,
    method: MethodKind | None,
    rank: int | None,
    micro_batch_size: int | None,
    length: int | None,
    checkpointing: bool | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Estimate memory, speed and cost of a run before it is paid for.

    \b
    fine-tune estimate --model "llama 3.1 8b" --gpu "RTX 4090" --method qlora --length 2048
    fine-tune estimate --plan plan.yaml
    fine-tune estimate --runs runs.jsonl > estimates.jsonl
    """
    if (runs_path, plan_path, model).count(None) != 2:
        raise click.UsageError("give one of --runs, --plan and --model")
    if runs_path is not None:
        _estimate_runs(runs_path)
        return
    from finetune_exe.estimate.expectation import estimate_plan
    from finetune_exe.report.estimate import plan_estimate_contract, render_estimate
    from finetune_exe.workflow.estimates import wished_plan
    from finetune_exe.workflow.plans import find_hardware, open_plan

    wished = {
        "method.lora_rank": rank,
        "batch.micro_batch_size": micro_batch_size,
        "data.max_length": length,
        "precision.gradient_checkpointing": None if checkpointing is None else str(checkpointing).lower(),
    }
    changes = (*(f"{path}={value}" for path, value in wished.items() if value is not None), *settings)
    hardware = wished_hardware(gpu=gpu, vram=vram, cpu=cpu)
    if plan_path is not None:
        kind = () if method is None else (f"method.kind={method}",)
        plan = open_plan(plan_path, settings=(*kind, *changes))
        if hardware is not None:
            plan = plan.model_copy(update={"hardware": find_hardware(hardware)})
    else:
        assert model is not None
        plan = wished_plan(model, hardware=hardware, method=method or "lora", settings=changes)
    estimate = estimate_plan(plan)
    if as_json:
        write_json(**plan_estimate_contract(estimate))
    else:
        say(render_estimate(estimate))


def _estimate_runs(path: Path) -> None:
    from finetune_exe.estimate.expectation import estimate_run
    from finetune_exe.report.estimate import run_estimate_contract
    from finetune_exe.workflow.estimates import read_runs

    for run in read_runs(path):
        write(json_line(run_estimate_contract(estimate_run(run))))
