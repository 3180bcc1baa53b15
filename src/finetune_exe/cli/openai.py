"""`fine-tune openai`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from finetune_exe.cli.surface import json_option, say, write_json
from finetune_exe.errors import GATE, typed

if TYPE_CHECKING:
    from finetune_exe.domain.values import Interval
    from finetune_exe.export.openai_file import ChatFile
    from finetune_exe.workflow.hosted import JobPlan, JobState

SHOWN, LINES_SHOWN = 20, 8
endpoint_option = click.option(
    "--endpoint", metavar="URL", default="https://api.openai.com/v1", show_default=True, envvar="OPENAI_BASE_URL",
    show_envvar=True, help="Address of the service; https, or http to this machine.",
)  # fmt: skip
model_option = click.option(
    "--model", default="gpt-4.1-mini-2025-04-14", show_default=True, help="Whose limits and price."
)


@click.group("openai")
def command() -> None:
    """Train at OpenAI, or at a service with its fine-tuning interface: check the rows, start, watch and stop a job.

    The key is read from OPENAI_API_KEY and nowhere written.

    \b
    fine-tune config --plan plan.yaml --to openai -o openai.yaml
    fine-tune dataset --plan plan.yaml --export openai -o data
    fine-tune openai check data/train.jsonl data/validation.jsonl
    fine-tune openai start openai.yaml --yes
    fine-tune openai status JOB
    """


@command.command("check")
@click.argument("paths", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@model_option
@click.option("--epochs", type=click.IntRange(min=1), default=3, show_default=True, help="Passes, for the price.")
@json_option
@click.pass_context
def check(context: click.Context, paths: tuple[Path, ...], model: str, epochs: int, as_json: bool) -> None:
    """Hold chat files against the service's rules; tokens and price. Leaves with status 3 where a rule is broken."""
    from finetune_exe.export.openai_file import check_chat_file, tiktoken_counter, training_cost

    count = tiktoken_counter(model)
    files = [check_chat_file(path, model=model, count=count) for path in paths]
    shared = len(frozenset.intersection(*(file.digests for file in files))) if len(files) > 1 else 0
    cost = training_cost(files[0].tokens, epochs, model)
    if as_json:
        write_json(
            model=model, files=[_plain(file) for file in files], shared_rows=shared,
            cost_usd=None if cost is None else cost.model_dump(), epochs=epochs,
        )  # fmt: skip
    else:
        for file in files:
            _say_file(file)
        if shared:
            say(f"{shared:,} rows stand in all of these files")
        _say_cost(cost, epochs, model)
    if shared or any(file.num_faults for file in files):
        context.exit(GATE)


@command.command("start", short_help="Check the rows and say the cost; with --yes, begin.")
@click.argument("job", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--yes", is_flag=True, help="Send the rows and begin; without it nothing leaves this machine.")
@endpoint_option
@json_option
def start(job: Path, yes: bool, endpoint: str, as_json: bool) -> None:
    """Check the rows that JOB names and say what they cost; with --yes, send them and begin."""
    from finetune_exe.workflow.hosted import Service, read_job, require_safe

    require_safe(endpoint)
    plan = read_job(job)
    state = Service(url=endpoint).start(plan) if yes else None
    if as_json:
        cost = None if plan.cost_usd is None else plan.cost_usd.model_dump()
        write_json(job=None if state is None else asdict(state), cost_usd=cost, epochs=plan.num_epochs, sent=yes)
        return
    _say_plan(plan)
    if state is None:
        say(f"Nothing was sent. To send the rows to {endpoint} and begin: "
            f"{typed('fine-tune', 'openai', 'start', job, '--endpoint', endpoint, '--yes')}")  # fmt: skip
    else:
        _say_state(state)


def _job_command(name: str, does: str) -> click.Command:
    """Make a command that asks the service for one thing about a job."""

    @click.argument("job_id", metavar="JOB")
    @endpoint_option
    @json_option
    def asked(job_id: str, endpoint: str, as_json: bool) -> None:
        from finetune_exe.workflow.hosted import Service

        service = Service(url=endpoint)
        state = service.cancel(job_id) if name == "cancel" else service.status(job_id)
        if as_json:
            write_json(job=asdict(state))
        else:
            _say_state(state)

    return click.command(name, help=does)(asked)


command.add_command(_job_command("status", "Ask how far a job is."))
command.add_command(_job_command("cancel", "Stop a job."))


@command.command("events")
@click.argument("job_id", metavar="JOB")
@endpoint_option
@json_option
def events(job_id: str, endpoint: str, as_json: bool) -> None:
    """List what happened to a job, oldest first."""
    from finetune_exe.workflow.hosted import Service

    found = Service(url=endpoint).events(job_id)
    if as_json:
        write_json(events=[event._asdict() for event in found])
        return
    for event in found:
        say(f"{_time(event.seconds)}  {event.level}  {' '.join(event.message.split())}")


def _time(seconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(max(0, min(seconds, 1 << 35)), tz=UTC).strftime("%Y-%m-%d %H:%M:%S")


def _plain(file: ChatFile) -> dict[str, object]:
    return {
        "path": file.path, "rows": file.num_rows, "bytes": file.num_bytes, "num_faults": file.num_faults,
        "faults": [fault._asdict() for fault in file.faults], "tokens": file.tokens.model_dump(),
        "longest_tokens": file.longest.model_dump(), "counted": file.counted,
    }  # fmt: skip


def _say_plan(plan: JobPlan) -> None:
    for file in (plan.training, plan.validation):
        if file is not None:
            _say_file(file)
    _say_cost(plan.cost_usd, plan.num_epochs, str(plan.body["model"]))


def _say_file(file: ChatFile) -> None:
    tokens = file.tokens
    low, high = f"{tokens.low:,.0f}", f"{tokens.high:,.0f}"
    judged = f"{low if low == high else f'{low} to {high}'} tokens, judged from letters (tiktoken counts them)"
    told = f"{tokens.mid:,.0f} tokens" if file.counted else judged
    say(f"{file.path}: {file.num_rows:,} rows, {file.num_faults:,} faults, {told}")
    alike: dict[tuple[str, str], list[int]] = {}
    for fault in file.faults:
        alike.setdefault((fault.code, " ".join(fault.message.split())), []).append(fault.line)
    for (code, message), lines in islice(alike.items(), SHOWN):
        say(f"  {_places(lines)}: {message} [{code}]")
    untold = file.num_faults - sum(len(lines) for lines in islice(alike.values(), SHOWN))
    if untold:
        say(f"  and {untold:,} more; --json lists them")
    if any(code == "no_messages" for code, _ in alike):
        say(f"  fix: {typed('fine-tune', 'dataset', 'chatml', file.path)} -o NEW.jsonl writes rows of other forms so")


def _places(lines: Sequence[int]) -> str:
    """Name the lines of one fault, the first few of many; 0 is the whole file."""
    if not lines[0]:
        return "the file"
    shown = ", ".join(map(str, lines[:LINES_SHOWN]))
    more = f" and {len(lines) - LINES_SHOWN:,} more" if len(lines) > LINES_SHOWN else ""
    return f"{'line' if len(lines) == 1 else 'lines'} {shown}{more}"


def _say_cost(cost: Interval | None, epochs: int, model: str) -> None:
    from finetune_exe.knowledge.hosted_models import hosted_models

    if cost is None:
        say(f"The price of {model} is not known here.")
        return
    known = hosted_models()[model]
    between = f"${cost.low:,.2f}" if cost.low == cost.high else f"${cost.low:,.2f} to ${cost.high:,.2f}"
    say(f"{epochs} epochs of {model}: {between} at ${known.usd_per_million_tokens:g} a million tokens, the price of "
        f"{known.date} ({known.source})")  # fmt: skip


def _say_state(state: JobState) -> None:
    lines = [f"{state.id}: {state.status}, {state.model}"]
    lines += [f"trained tokens: {state.trained_tokens:,}"] if state.trained_tokens is not None else []
    lines += [f"tuned model: {state.tuned_model}"] if state.tuned_model else []
    lines += [f"failed: {state.fault}"] if state.fault else []
    say("\n".join(lines))
