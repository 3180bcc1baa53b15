"""`fine-tune dataset`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import click

from finetune_exe.atomic import output_exists, write_file
from finetune_exe.cli.surface import json_line, json_option, overwrite_option, say, set_option, view, write_json
from finetune_exe.domain.task import FormatName
from finetune_exe.errors import GATE

if TYPE_CHECKING:
    from finetune_exe.report.token_view import ShownRow
    from finetune_exe.text.tokenizer import ChatTokenizer

SHOWN_TOKENS = 100_000
"""Rows shown without a plan may have so many tokens."""
FORMATS: tuple[FormatName, ...] = get_args(FormatName)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """How a plan's data is to be prepared, and what is to come out."""

    output: Path | None
    overwrite: bool
    as_json: bool
    num_workers: int | None
    launch: Literal["local", "ray"]
    show: int | None
    export: Literal["parquet", "datasets"] | None


@click.command("dataset")
@click.argument("words", nargs=-1, metavar="[FORMAT] [PATH]...")
@click.option(
    "--plan", "plan_path", type=click.Path(path_type=Path), help="Prepare the data of this plan for training."
)
@click.option("--check", is_flag=True, help="Only report; leave with status 3 if any row would be dropped.")
@click.option("--model", metavar="MODEL", help="With --check: also prove the loss masks with this model's template.")
@click.option(
    "--show",
    type=click.IntRange(min=1),
    metavar="N",
    help="Print N rows token by token, the learned ones marked; with --plan, or with --model.",
)
@click.option(
    "--export",
    type=click.Choice(["parquet", "datasets"]),
    help="With --plan: write the prepared rows for other programs, into -o.",
)
@click.option(
    "--workers",
    "num_workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --plan: processes that encode.  [default: one for each core]",
)
@click.option(
    "--launch",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="With --plan: where they run.",
)
@set_option
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File for converted rows, or folder for --plan.  [default: dataset beside the plan]")  # fmt: skip
@overwrite_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    words: tuple[str, ...],
    plan_path: Path | None,
    check: bool,
    model: str | None,
    show: int | None,
    export: Literal["parquet", "datasets"] | None,
    num_workers: int | None,
    launch: Literal["local", "ray"],
    settings: tuple[str, ...],
    output: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Check the rows of PATHs, convert them to FORMAT (alpaca, chatml, sharegpt, prompt_completion, completion), or
    prepare those of a plan: read, clean, split, tokenise, prove.

    \b
    fine-tune dataset rows.csv --check --model embedded
    fine-tune dataset rows.csv --show 3 --model embedded
    fine-tune dataset alpaca chats.jsonl -o alpaca.jsonl
    fine-tune dataset --plan plan.yaml
    """
    target = next((name for name in FORMATS if words and words[0] == name), None)
    paths = words[1:] if target else words
    if plan_path is not None:
        if paths or target or check or model:
            raise click.UsageError(
                "--plan goes with -o, --set, --show, --export, --workers, --launch, --overwrite and --json only: "
                "the plan names the data"
            )
        _prepare(plan_path, settings, _Wish(output=output, overwrite=overwrite, as_json=as_json, show=show,
                                            num_workers=num_workers, launch=launch, export=export))  # fmt: skip
        return
    if not paths:
        raise click.UsageError("give a PATH, or --plan PLAN")
    if settings or export or num_workers or launch != "local":
        raise click.UsageError("--set, --export, --workers and --launch go with --plan")
    if show is not None:
        if model is None or check or target:
            raise click.UsageError("--show goes with --plan, or with PATHs and --model")
        _show_files(paths, model, show, as_json=as_json)
    elif target and not check:
        _convert(target, paths, output, overwrite=overwrite, as_json=as_json)
    elif not _check(target, paths, model, as_json=as_json) and check:
        context.exit(GATE)


def _prepare(plan_path: Path, settings: tuple[str, ...], wish: _Wish) -> None:
    from finetune_exe.report.dataset import render_dataset
    from finetune_exe.workflow.plans import open_plan
    from finetune_exe.workflow.runs import plan_tokenizer, prepare_dataset

    plan = open_plan(plan_path, settings=settings)
    beside = plan_path.parent / "dataset"
    if wish.export is not None and wish.output is None:
        raise click.UsageError("--export needs a folder to write: -o FOLDER")
    folder = beside if wish.export is not None or wish.output is None else wish.output
    with view(as_json=wish.as_json) as live:
        manifest = prepare_dataset(
            plan, folder, overwrite=wish.overwrite, progress=live.progress, note=live.note,
            num_workers=wish.num_workers, launch=wish.launch,
        )  # fmt: skip
        if wish.export is not None and wish.output is not None:
            from finetune_exe.workflow.export_rows import export_rows

            live.note(f"writing {wish.export} to {wish.output}")
            export_rows(folder, wish.output, form=wish.export, overwrite=wish.overwrite)
    if wish.show is not None:
        from finetune_exe.workflow.token_rows import rows_of_dataset

        tokenizer = plan_tokenizer(plan, note=lambda _: None)
        _say_tokens(rows_of_dataset(folder, tokenizer, num_rows=wish.show), as_json=wish.as_json)
    elif wish.as_json:
        write_json(dataset=manifest, folder=str(folder))
    else:
        say(render_dataset(manifest))
        say(f"\nThe prepared dataset lies in {folder}; dropped rows, with reasons, in {folder / 'rejected.jsonl'}")


def _show_files(paths: tuple[str, ...], model: str, num_rows: int, *, as_json: bool) -> None:
    from finetune_exe.workflow.token_rows import rows_of_files

    with view(as_json=as_json) as live:
        tokenizer = _tokenizer(model, live.note)
        rows = rows_of_files(paths, tokenizer, num_rows=num_rows, max_length=SHOWN_TOKENS)
    _say_tokens(rows, as_json=as_json)


def _say_tokens(rows: Sequence[ShownRow], *, as_json: bool) -> None:
    from finetune_exe.report.token_view import render_tokens

    if as_json:
        shown = [{"source": row.source, "tokens": [{"id": t.id, "text": t.text, "learned": t.learned} for t in row.tokens]}
                 for row in rows]  # fmt: skip
        write_json(rows=shown)
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        say(render_tokens(rows, colour=colour))


def _convert(
    target: FormatName, paths: tuple[str, ...], output: Path | None, *, overwrite: bool, as_json: bool
) -> None:
    from finetune_exe.data.convert import convert

    if output is not None and output.exists() and not overwrite:
        raise output_exists(output)
    conversion = convert(paths, target=target)
    text = "".join(json_line(row) + "\n" for row in conversion.rows)
    if output is not None:
        write_file(output, text.encode())
    drops = [drop.model_dump(mode="json") for drop in conversion.dropped]
    if as_json:
        write_json(seen=conversion.seen, written=len(conversion.rows), dropped=drops, format=conversion.source_format)
        return
    if output is None:
        click.echo(text, nl=False)
    click.echo(
        f"{len(conversion.rows):,} of {conversion.seen:,} rows converted from {conversion.source_format} to {target}",
        err=True,
    )
    for drop in conversion.dropped:
        click.echo(f"  {drop.count:,} not: {drop.message}, first at {drop.first}; fix: {drop.fix}", err=True)


def _check(target: FormatName | None, paths: tuple[str, ...], model: str | None, *, as_json: bool) -> bool:
    """Report on the rows and say whether all could be used."""
    from finetune_exe.data.check import check
    from finetune_exe.report.check import render_check

    with view(as_json=as_json) as live:
        report = check(paths, format_name=target, tokenizer=_tokenizer(model, live.note) if model else None)
    if as_json:
        write_json(**report.model_dump(mode="json", by_alias=True))
    else:
        say(render_check(report))
    return not report.findings


def _tokenizer(model: str, note: Callable[[str], None]) -> ChatTokenizer:
    from finetune_exe.models.locate import model_folder
    from finetune_exe.text.tokenizer import load_tokenizer

    return load_tokenizer(model_folder(model, progress=note), chat_template=None)
