"""`fine-tune dataset`: check, convert or show rows, or prepare those of a plan."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from finetune_exe.cli.surface import json_option, overwrite_option, set_option
from finetune_exe.domain.task import WRITTEN_FORMATS
from finetune_exe.errors import GATE

if TYPE_CHECKING:
    from finetune_exe.cli.dataset_plan import Wish
    from finetune_exe.export.trainer_rows import TrainerName
    from finetune_exe.text.thinking import Place
    from finetune_exe.workflow.export_rows import ExportForm


@click.command("dataset")
@click.argument("words", nargs=-1, metavar="[FORMAT] [PATH]...")
@click.option("--plan", "plan_path", type=click.Path(path_type=Path), help="Prepare the data of this plan for training.")  # fmt: skip
@click.option("--check", "checks", is_flag=True, help="Only report what is wrong with the rows; leave with status 3 if there is an error among it.")  # fmt: skip
@click.option("--validation", multiple=True, type=click.Path(), metavar="PATH", help="With --check: rows held out while training; those that leak into PATHs are reported.")  # fmt: skip
@click.option("--test", multiple=True, type=click.Path(), metavar="PATH", help="With --check: rows held out for the end, likewise.")  # fmt: skip
@click.option("--benchmarks", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR", help="With --check: benchmark files whose items must not be trained on.")  # fmt: skip
@click.option("--model", metavar="MODEL", help="With --check or --show: also prove the loss masks with this model's template.")  # fmt: skip
@click.option("--columns", metavar="PROMPT,ANSWER", help="The columns to read, where their names do not say it.")
@click.option("--turns", metavar="FORM", help="With FORMAT: part a text of each row into turns. FORM is that of a chat template (chatml, llama-2, alpaca, ..., as --check names it) or the marks before question and answer, as in 'Q:,A:'.")  # fmt: skip
@click.option("--thinking", type=click.Choice(["within", "out"]), help="With FORMAT: write what answers think into them, between <think> and </think>, or leave it out.")  # fmt: skip
@click.option("--show", type=click.IntRange(min=1), metavar="N", help="Print N rows token by token, the learned ones marked; with --plan, or with --model. See also --dry-run.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="With --plan: show what would be repaired and dropped, N rows of each kind (--show), and write nothing.")  # fmt: skip
@click.option("--export", type=click.Choice(["parquet", "datasets", "axolotl", "llamafactory", "ms-swift", "torchtune", "litgpt", "mlx", "openai"]), help="With --plan: write the prepared rows for other programs, into -o; for a trainer, in its own form.")  # fmt: skip
@click.option("--workers", "num_workers", type=click.IntRange(min=1), metavar="N", help="With --plan: processes that encode.  [default: one for each core]")  # fmt: skip
@click.option("--launch", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="With --plan: where they run.")  # fmt: skip
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="With --check: also write the report as a page for a browser; with --plan, in place of report.html there.")  # fmt: skip
@set_option
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File for converted rows, or folder for --plan.  [default: dataset beside the plan]")  # fmt: skip
@overwrite_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    words: tuple[str, ...],
    plan_path: Path | None,
    checks: bool,
    validation: tuple[str, ...],
    test: tuple[str, ...],
    benchmarks: Path | None,
    model: str | None,
    columns: str | None,
    turns: str | None,
    thinking: Place | None,
    show: int | None,
    dry_run: bool,
    export: ExportForm | TrainerName | None,
    num_workers: int | None,
    launch: Literal["local", "ray"],
    html: Path | None,
    settings: tuple[str, ...],
    output: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Check the rows of PATHs, convert them to FORMAT (alpaca, chatml, sharegpt, prompt_completion, completion,
    preference, kto), or prepare those of a plan: read, clean, split, tokenise, prove.

    \b
    fine-tune dataset --check rows.csv --model embedded
    fine-tune dataset --check rows.csv --html report.html
    fine-tune dataset --check train.jsonl --validation held_out.jsonl --benchmarks benchmarks/
    fine-tune dataset rows.csv --show 3 --model embedded
    fine-tune dataset alpaca chats.jsonl -o alpaca.jsonl
    fine-tune dataset chatml texts.jsonl --turns llama-2 -o chats.jsonl
    fine-tune dataset chatml texts.jsonl --turns 'Q:,A:' -o chats.jsonl
    fine-tune dataset --plan plan.yaml --dry-run
    fine-tune dataset --plan plan.yaml
    """  # fmt: skip
    from finetune_exe.cli.dataset_files import Files, Page, check_files, convert_files, show_files
    from finetune_exe.cli.dataset_plan import Wish

    target = next((name for name in WRITTEN_FORMATS if words and words[0] == name), None)
    paths = words[1:] if target else words
    if paths and not target:
        _refuse_misspelt_format(paths[0])
    held_out = bool(validation or test or benchmarks)
    if plan_path is not None:
        if paths or target or checks or model or columns or turns or thinking or held_out:
            raise click.UsageError(
                "--plan goes with -o, --set, --show, --dry-run, --export, --html, --workers, --launch, --overwrite and "
                "--json only: the plan names the data"
            )
        wish = Wish(output=output, overwrite=overwrite, as_json=as_json, show=show, num_workers=num_workers,
                    launch=launch, export=export, html=html)  # fmt: skip
        _follow_plan(plan_path, settings, wish, dry_run=dry_run)
        return
    if not paths:
        raise click.UsageError("give a PATH, or --plan PLAN")
    if settings or dry_run or export or num_workers or launch != "local":
        raise click.UsageError("--set, --dry-run, --export, --workers and --launch go with --plan")
    if html is not None and (show is not None or (target and not checks)):
        raise click.UsageError("--html goes with --check or --plan")
    if turns is not None and (columns or checks or not target):
        raise click.UsageError("--turns goes with a FORMAT to convert to, and without --columns")
    if thinking is not None and (checks or not target):
        raise click.UsageError("--thinking goes with a FORMAT to convert to")
    files = Files.named(paths, columns)
    if show is not None:
        if model is None or checks or target or held_out:
            raise click.UsageError("--show goes with --plan, or with PATHs and --model")
        show_files(files, model, show, as_json=as_json)
    elif target and not checks:
        if held_out or model:
            raise click.UsageError("--validation, --test, --benchmarks and --model go with --check")
        convert_files(files, target, output, turns=turns, thinking=thinking, overwrite=overwrite, as_json=as_json)
    else:
        clean = check_files(
            files, format_name=target, validation=validation, test=test, benchmarks=benchmarks, model=model,
            page=Page(html, overwrite), as_json=as_json,
        )  # fmt: skip
        if checks and not clean:
            context.exit(GATE)


def _follow_plan(plan_path: Path, settings: tuple[str, ...], wish: Wish, *, dry_run: bool) -> None:
    """Prepare the rows of a plan, or show what that would do."""
    from finetune_exe.cli.dataset_plan import prepare_plan, preview_plan

    if not dry_run:
        prepare_plan(plan_path, settings, wish)
        return
    if wish.output or wish.export or wish.html or wish.overwrite:
        raise click.UsageError("--dry-run writes nothing: leave out -o, --export, --html and --overwrite")
    preview_plan(plan_path, settings, num_shown=wish.show, as_json=wish.as_json)


def _refuse_misspelt_format(word: str) -> None:
    """Refuse a word that should name data and is almost a format: no path, no pattern, not on the hub."""
    near = get_close_matches(word.lower(), WRITTEN_FORMATS, n=1)
    if near and word.isidentifier() and not Path(word).exists():
        known = ", ".join(WRITTEN_FORMATS)
        raise click.UsageError(f"{word!r} is no format and no file; did you mean {near[0]}? The formats: {known}")
