"""What `fine-tune dataset` does with files of rows: check them, convert them, show them token by token."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import click

from finetune_exe.atomic import require_new
from finetune_exe.cli.surface import remark, say, view, write, write_json
from finetune_exe.domain.json_text import json_line
from finetune_exe.domain.task import FormatName

if TYPE_CHECKING:
    from finetune_exe.report.token_view import ShownRow
    from finetune_exe.text.formats.format import Row
    from finetune_exe.text.formats.marked_turns import TurnForm
    from finetune_exe.text.thinking import Place
    from finetune_exe.text.tokenizer import ChatTokenizer


class Files(NamedTuple):
    """Files of rows, and which columns to read where their names do not say it."""

    paths: tuple[str, ...]
    columns: dict[str, str]

    @classmethod
    def named(cls, paths: tuple[str, ...], columns: str | None) -> Self:
        """Take PROMPT,ANSWER apart.

        Raises:
            click.UsageError: `columns` is not two names.
        """
        if columns is None:
            return cls(paths, {})
        prompt, comma, answer = columns.partition(",")
        if not comma or not prompt.strip() or not answer.strip():
            raise click.UsageError("--columns takes two names, as in --columns frage,antwort")
        return cls(paths, {"prompt": prompt.strip(), "answer": answer.strip()})


class Page(NamedTuple):
    """A page for a browser that is wished beside the answer."""

    file: Path | None
    overwrite: bool


def check_files(
    files: Files,
    *,
    format_name: FormatName | None,
    validation: tuple[str, ...],
    test: tuple[str, ...],
    benchmarks: Path | None,
    model: str | None,
    page: Page,
    as_json: bool,
) -> bool:
    """Report on the rows and say whether they are free of errors."""
    from finetune_exe.data.check import check
    from finetune_exe.report.check import render_check
    from finetune_exe.workflow.pages import write_check_page

    if page.file is not None:
        require_new(page.file, overwrite=page.overwrite)
    with view(as_json=as_json) as live:
        tokenizer = _tokenizer(model, live.note) if model else None
        report = check(
            files.paths, validation=validation, test=test, benchmarks=benchmarks, format_name=format_name,
            columns=files.columns, tokenizer=tokenizer,
        )  # fmt: skip
        if page.file is not None:
            live.note(f"writing {page.file}")
            write_check_page(report, page.file, paths=files.paths, columns=files.columns, tokenizer=tokenizer)
    if as_json:
        write_json(**report.model_dump(mode="json", by_alias=True))
    else:
        say(render_check(report))
    return not any(finding.severity == "error" for finding in report.findings)


def convert_files(
    files: Files,
    target: FormatName,
    output: Path | None,
    *,
    turns: str | None,
    thinking: Place | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the rows in another format, into a file that is there whole or not at all, or on stdout."""
    from finetune_exe.workflow.converting import convert_rows, convert_to_file

    form = None if turns is None else _turn_form(turns)
    if output is not None:
        conversion = convert_to_file(
            files.paths, output, target=target, columns=files.columns, turns=form, thinking=thinking,
            overwrite=overwrite,
        )  # fmt: skip
    else:

        def show(row: Row) -> None:
            if not as_json:
                write(json_line(row))

        conversion = convert_rows(
            files.paths, target=target, columns=files.columns, write=show, turns=form, thinking=thinking
        )
    drops = [drop.model_dump(mode="json") for drop in conversion.dropped]
    if as_json:
        noted = [{"code": note.code, "count": note.count, "first": note.first} for note in conversion.noted]
        write_json(
            seen=conversion.seen,
            written=conversion.written,
            dropped=drops,
            noted=noted,
            format=conversion.source_format,
        )
        return
    remark(f"{conversion.written:,} of {conversion.seen:,} rows converted from {conversion.source_format} to {target}")
    for drop in conversion.dropped:
        remark(f"  {drop.count:,} not ({drop.code}): {drop.message}, first at {drop.first}; fix: {drop.fix}")
    for note in conversion.noted:
        remark(f"  {note.count:,} noted ({note.code}): {note.message}, first at {note.first}")


def _turn_form(said: str) -> TurnForm:
    """Read what stands behind --turns.

    Raises:
        click.UsageError: It is neither the name of a form nor two marks.
    """
    from finetune_exe.text.formats.marked_turns import turn_form

    try:
        return turn_form(said)
    except ValueError as unclear:
        raise click.UsageError(f"--turns {said!r} is not understood: {unclear}") from None


def show_files(files: Files, model: str, num_rows: int, *, as_json: bool) -> None:
    """Print the first rows token by token."""
    from finetune_exe.workflow.token_rows import rows_of_files

    with view(as_json=as_json) as live:
        tokenizer = _tokenizer(model, live.note)
        rows = rows_of_files(files.paths, tokenizer, num_rows=num_rows, columns=files.columns)
    say_tokens(rows, as_json=as_json)


def say_tokens(rows: Sequence[ShownRow], *, as_json: bool) -> None:
    """Print rows token by token, the learned ones in colour on a terminal that has it."""
    from finetune_exe.report.token_view import render_tokens

    if as_json:
        shown = [{"source": row.source, "tokens": [{"id": t.id, "text": t.text, "learned": t.learned} for t in row.tokens]}
                 for row in rows]  # fmt: skip
        write_json(rows=shown)
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        write(render_tokens(rows, colour=colour))


def _tokenizer(model: str, note: Callable[[str], None]) -> ChatTokenizer:
    from finetune_exe.models.locate import model_folder
    from finetune_exe.text.tokenizer import load_tokenizer

    return load_tokenizer(model_folder(model, progress=note), chat_template=None)
