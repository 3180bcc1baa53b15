"""What the commands share: their common options, and how results reach the user."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from finetune_exe.atomic import STANDARD_OUTPUT, cannot_write
from finetune_exe.domain.document import Document
from finetune_exe.domain.events import AnyEvent, Emit, encode_event
from finetune_exe.domain.json_text import json_line, unsteering
from finetune_exe.errors import FineTuneError, typed
from finetune_exe.report.boxes import clean_lines
from finetune_exe.report.live import LiveView, live_view


class FiniteRange(click.FloatRange):
    """A number within bounds that is one: no bound holds nan back, and few commands mean anything by infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it, or say that it is none."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


json_option = click.option("--json", "as_json", is_flag=True, help="Write one JSON object on stdout, and nothing else.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what is there.")
set_option = click.option(
    "--set", "settings", multiple=True, metavar="PATH=VALUE",
    help="Change a setting of the plan, as in optimizer.learning_rate=1e-4. May be given again.",
)  # fmt: skip
gpu_option = click.option("--gpu", metavar="NAME", help='Plan for this hardware, as in "RTX 4090" or "8xH100".')
vram_option = click.option("--vram", type=FiniteRange(min=0.5), metavar="GIB", help="Plan for a GPU with so much memory.")  # fmt: skip
cpu_option = click.option("--cpu", is_flag=True, help="Plan for this machine without its GPUs.")
SCHEMA_VERSION = 1
_ROWS = {".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".txt"}
"""Ends of names that files of rows have and plans have not."""


def task_in_words(_: click.Context, __: click.Parameter, value: str) -> str:
    """Refuse a task that says nothing, or names a file of rows instead."""
    if not value.strip():
        raise click.BadParameter('it is empty: say in a sentence what the model shall do, such as "sort support mails"')
    if Path(value).suffix and os.path.isfile(value):  # which a sentence may be too long for
        told = typed("fine-tune", "analyze", "what the model shall do", "--data", value)
        raise click.BadParameter(
            f"{value} is a file: say in a sentence what the model shall learn from it, as in {told}"
        )
    return value


def one_sentence(task: str, further: Sequence[str]) -> str:
    """Say how words that stand behind a task are meant to be given: paths by --data, and a sentence in quotes."""
    path = next((words for words in further if os.path.exists(words)), None)
    if path is None:
        told = typed("fine-tune", "analyze", " ".join((task, *further)))
        return f"the task is one sentence, which the shell keeps whole in quotes: {told}"
    told = typed("fine-tune", "analyze", task, "--data", path)
    return (
        f"{path} stands alone, and rows are given by --data, once for each path: {told}; a folder, or a pattern in "
        "quotes, stands for its files"
    )


def plan_not_rows(_: click.Context, __: click.Parameter, value: Path) -> Path:
    """Refuse a file of rows in the place of a plan, and say how a plan is made of it."""
    if value.suffix.lower() in _ROWS and os.path.isfile(value):
        told = typed("fine-tune", "analyze", "what the model shall do", "--data", value)
        raise click.BadParameter(f"{value} holds rows, and a plan is wanted; make one of them first: {told}")
    return value


def say(text: str) -> None:
    """Write words for a person on stdout; whatever they quote, no character of them steers the terminal."""
    write("\n".join(clean_lines(text)))


def write(text: str, *, end: str = "\n") -> None:
    """Write a result on stdout as it is, for other programs to read.

    Raises:
        FineTuneError: I01 where standard output takes nothing more.
        BrokenPipeError: Its reader has gone.
    """
    try:
        click.echo(text + end, nl=False)
    except BrokenPipeError:
        raise
    except OSError as fault:
        raise cannot_write(fault, STANDARD_OUTPUT) from fault


def remark(text: str) -> None:
    """Write words for a person on stderr, beside a result; no character of them steers the terminal."""
    click.echo("\n".join(clean_lines(text)), err=True)


def write_json(**content: Any) -> None:
    """Write one JSON object on stdout; documents become their JSON."""
    plain = {name: value.model_dump(mode="json", by_alias=True) if isinstance(value, Document) else value
             for name, value in content.items()}  # fmt: skip
    write(json_line({"schema_version": SCHEMA_VERSION, **plain}))


def event_lines(note: Callable[[str], None]) -> Emit:
    """Write events as JSON lines on stdout for as long as it takes them, for a run does not end with its reader.

    Args:
        note: Told once that nothing more is written.
    """
    heard = True

    def write_heard(event: AnyEvent) -> None:
        nonlocal heard
        if not heard:
            return
        try:
            write(unsteering(encode_event(event).decode()))
        except (FineTuneError, BrokenPipeError):
            heard = False
            note("standard output takes nothing more: training goes on, and its events are in the run's events.jsonl")

    return write_heard


@contextmanager
def view(*, as_json: bool) -> Iterator[LiveView]:
    """Show progress on stderr while the block runs."""
    with live_view(sys.stderr, plain=as_json) as live:
        yield live


def wished_hardware(*, gpu: str | None, vram: float | None, cpu: bool) -> str | None:
    """Put the three ways of naming hardware into one; None means this machine as it is.

    Raises:
        click.UsageError: More than one of them is given.
    """
    if sum((gpu is not None, vram is not None, cpu)) > 1:
        raise click.UsageError("--gpu, --vram and --cpu exclude each other")
    return "cpu" if cpu else f"{vram:g} GiB" if vram is not None else gpu
