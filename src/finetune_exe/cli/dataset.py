"""`fine-tune dataset`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from finetune_exe.atomic import new_file, output_exists
from finetune_exe.cli.surface import json_line, json_option, overwrite_option, say, set_option, view, write_json
from finetune_exe.domain.task import WRITTEN_FORMATS, FormatName
from finetune_exe.errors import GATE

if TYPE_CHECKING:
    from finetune_exe.text.formats.format import Row
    from finetune_exe.text.tokenizer import ChatTokenizer


class HeldOut(NamedTuple):
    """Data that is not trained on."""

    validation: tuple[str, ...]
    test: tuple[str, ...]
    benchmarks: Path | None
    """A folder of benchmark files."""


@click.command("dataset")
@click.argument("words", nargs=-1, metavar="[FORMAT] [PATH]...")
@click.option(
    "--plan", "plan_path", type=click.Path(path_type=Path), help="Prepare the data of this plan for training."
)
@click.option(
    "--check",
    is_flag=True,
    help="Only report what is wrong with the rows; leave with status 3 if there is an error among it.",
)
@click.option(
    "--validation",
    multiple=True,
    type=click.Path(),
    metavar="PATH",
    help="With --check: rows held out while training; those that leak into PATHs are reported.",
)
@click.option(
    "--test",
    multiple=True,
    type=click.Path(),
    metavar="PATH",
    help="With --check: rows held out for the end, likewise.",
)
@click.option(
    "--benchmarks",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="With --check: benchmark files whose items must not be trained on.",
)
@click.option("--model", metavar="MODEL", help="With --check: also prove the loss masks with this model's template.")
@click.option("--columns", metavar="PROMPT,ANSWER", help="The columns to read, where their names do not say it.")
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
    validation: tuple[str, ...],
    test: tuple[str, ...],
    benchmarks: Path | None,
    model: str | None,
    columns: str | None,
    settings: tuple[str, ...],
    output: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Check the rows of PATHs, convert them to FORMAT (alpaca, chatml, sharegpt, prompt_completion, completion,
    preference, kto), or prepare those of a plan: read, clean, split, tokenise, prove.

    \b
    fine-tune dataset --check rows.csv --model embedded
    fine-tune dataset --check train.jsonl --validation held_out.jsonl --benchmarks benchmarks/
    fine-tune dataset alpaca chats.jsonl -o alpaca.jsonl
    fine-tune dataset --plan plan.yaml
    """
    target = next((name for name in WRITTEN_FORMATS if words and words[0] == name), None)
    paths = words[1:] if target else words
    if plan_path is not None:
        if paths or target or check or model or columns or validation or test or benchmarks:
            raise click.UsageError("--plan goes with -o, --set, --overwrite and --json only: the plan names the data")
        _prepare(plan_path, settings, output, overwrite=overwrite, as_json=as_json)
        return
    if not paths:
        raise click.UsageError("give a PATH, or --plan PLAN")
    if settings:
        raise click.UsageError("--set goes with --plan")
    held_out = HeldOut(validation=validation, test=test, benchmarks=benchmarks)
    if target and not check:
        _convert(target, paths, columns, output, overwrite=overwrite, as_json=as_json)
    elif not _check(target, paths, columns, held_out, model, as_json=as_json) and check:
        context.exit(GATE)


def _prepare(
    plan_path: Path, settings: tuple[str, ...], output: Path | None, *, overwrite: bool, as_json: bool
) -> None:
    from finetune_exe.report.dataset import render_dataset
    from finetune_exe.workflow.plans import open_plan
    from finetune_exe.workflow.runs import prepare_dataset

    plan = open_plan(plan_path, settings=settings)
    folder = output or plan_path.parent / "dataset"
    with view(as_json=as_json) as live:
        manifest = prepare_dataset(plan, folder, overwrite=overwrite, progress=live.progress, note=live.note)
    if as_json:
        write_json(dataset=manifest, folder=str(folder))
    else:
        say(render_dataset(manifest))
        say(f"\nThe prepared dataset lies in {folder}; dropped rows, with reasons, in {folder / 'rejected.jsonl'}")


def _convert(
    target: FormatName,
    paths: tuple[str, ...],
    columns: str | None,
    output: Path | None,
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    from finetune_exe.data.convert import convert

    if output is not None and output.exists() and not overwrite:
        raise output_exists(output)
    with new_file(output) if output is not None else nullcontext() as file:

        def write(row: Row) -> None:
            if file is not None:
                file.write(f"{json_line(row)}\n".encode())
            elif not as_json:
                say(json_line(row))

        conversion = convert(paths, target=target, columns=_columns(columns), write=write)
    drops = [drop.model_dump(mode="json") for drop in conversion.dropped]
    if as_json:
        write_json(seen=conversion.seen, written=conversion.written, dropped=drops, format=conversion.source_format)
        return
    click.echo(
        f"{conversion.written:,} of {conversion.seen:,} rows converted from {conversion.source_format} to {target}",
        err=True,
    )
    for drop in conversion.dropped:
        click.echo(f"  {drop.count:,} not: {drop.message}, first at {drop.first}; fix: {drop.fix}", err=True)


def _columns(text: str | None) -> dict[str, str]:
    """Take PROMPT,ANSWER apart."""
    if text is None:
        return {}
    prompt, comma, answer = text.partition(",")
    if not comma or not prompt.strip() or not answer.strip():
        raise click.UsageError("--columns takes two names, as in --columns frage,antwort")
    return {"prompt": prompt.strip(), "answer": answer.strip()}


def _check(
    target: FormatName | None,
    paths: tuple[str, ...],
    columns: str | None,
    held_out: HeldOut,
    model: str | None,
    *,
    as_json: bool,
) -> bool:
    """Report on the rows and say whether they are free of errors."""
    from finetune_exe.data.check import check
    from finetune_exe.report.check import render_check

    with view(as_json=as_json) as live:
        report = check(
            paths,
            validation=held_out.validation,
            test=held_out.test,
            benchmarks=held_out.benchmarks,
            format_name=target,
            columns=_columns(columns),
            tokenizer=_tokenizer(model, live.note) if model else None,
        )
    if as_json:
        write_json(**report.model_dump(mode="json", by_alias=True))
    else:
        say(render_check(report))
    return not any(finding.severity == "error" for finding in report.findings)


def _tokenizer(model: str, note: Callable[[str], None]) -> ChatTokenizer:
    from finetune_exe.models.locate import model_folder
    from finetune_exe.text.tokenizer import load_tokenizer

    return load_tokenizer(model_folder(model, progress=note), chat_template=None)
