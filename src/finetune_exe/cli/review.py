"""`fine-tune review`."""

from __future__ import annotations

from pathlib import Path

import click

from finetune_exe.cli.surface import (
    gpu_option,
    json_option,
    remark,
    say,
    vram_option,
    wished_hardware,
    write,
    write_json,
)
from finetune_exe.domain.json_text import json_line
from finetune_exe.errors import GATE

TOOLS = ("axolotl", "llamafactory", "trl", "ms-swift", "torchtune", "litgpt", "mlx", "unsloth", "transformers")


@click.command("review")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--for", "tool", type=click.Choice(TOOLS), help="The program that the files are for, where their keys do not show it.")  # fmt: skip
@gpu_option
@vram_option
@click.option("--strict", is_flag=True, help="Leave with 3 for warnings too.")
@click.option("--sarif", "as_sarif", is_flag=True, help="Write SARIF 2.1.0, which code hosts show beside the lines.")
@json_option
def command(
    files: tuple[Path, ...],
    tool: str | None,
    gpu: str | None,
    vram: float | None,
    strict: bool,
    as_sarif: bool,
    as_json: bool,
) -> None:
    """Review training configurations: of Axolotl, LLaMA-Factory, TRL, ms-swift, torchtune, transformers; scripts; plans.

    Nothing of a file is run. The exit status is 3 where there is an error.

    \b
    fine-tune review axolotl.yaml
    fine-tune review train.py run.sh --gpu "RTX 4090"
    fine-tune review configs/*.yaml --sarif > review.sarif
    """
    from finetune_exe.workflow.reviewing import review_files

    if as_json and as_sarif:
        raise click.UsageError("--json and --sarif exclude each other")
    hardware = wished_hardware(gpu=gpu, vram=vram, cpu=False)
    reviews, passed_over = review_files(
        files, tool="script" if tool == "trl" and _only_scripts(files) else tool, gpu=hardware
    )
    if as_sarif:
        from finetune_exe.review.sarif import sarif

        write(json_line(sarif(reviews)))
    elif as_json:
        skipped = [{"path": fault.where, "reason": fault.what} for fault in passed_over]
        write_json(files=[review.model_dump(mode="json") for review in reviews], passed_over=skipped)
    else:
        from finetune_exe.report.review import show_reviews

        say(show_reviews(reviews))
    if not as_json:
        for fault in passed_over:
            remark(f"passed over {fault.where}: {fault.what}")
    bad = ("error", "warning") if strict else ("error",)
    if any(finding.severity in bad for review in reviews for finding in review.findings):
        raise click.exceptions.Exit(GATE)


def _only_scripts(files: tuple[Path, ...]) -> bool:
    return all(path.suffix == ".py" for path in files)
