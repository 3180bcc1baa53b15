"""Take an interrupted run up again, or say why that cannot be."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from finetune_exe.domain.dataset import PreparedDataset
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.errors import FineTuneError

if TYPE_CHECKING:
    from finetune_exe.prepared.store import PreparedFolder
    from finetune_exe.text.tokenizer import ChatTokenizer
    from finetune_exe.training.resume import Change, Resumption


def finished_summary(summary: Path) -> TrainingRun | None:
    """Read the summary of a run that has nothing left to do; None where it may go on."""
    if not summary.is_file():
        return None
    run = TrainingRun.read(summary)
    return None if run.stop_reason == "out_of_time" and run.num_steps < run.planned_steps else run


def run_exists(path: Path, *, resumable: bool) -> FineTuneError:
    """Say that a run is there already, and how to go on with it where it was interrupted."""
    from finetune_exe.training.resume import resume_command

    elsewhere = "train into another folder with --run, or add --overwrite to replace it"
    return FineTuneError(
        "O01",
        what="an interrupted run lies there" if resumable else "the output exists already",
        where=str(path),
        why="overwriting it would destroy an earlier result",
        fix=f"go on with it: {resume_command(path)}; or {elsewhere}" if resumable else elsewhere,
    )


def take_up(
    plan: Plan, data: PreparedFolder, tokenizer: ChatTokenizer, *, base: Path, run: Path, flags: Collection[str]
) -> Resumption | None:
    """Find where a run goes on, and make sure that it would be the same run; None where it saved nothing yet.

    Args:
        plan: The plan as it is now.
        data: The run's prepared rows.
        tokenizer: The base model's as it is now.
        base: Folder of the base model.
        run: The run's folder.
        flags: Options by which the user allowed changes.

    Raises:
        FineTuneError: T12 where no checkpoint can be trusted, T13 where something changed.
    """
    from finetune_exe.training.resume import (
        content_changes,
        find_resumption,
        insist_unchanged,
        plan_changes,
        with_remarks,
    )

    found = find_resumption(run)
    manifest = found.checkpoint.manifest if found else None
    changes = [*data_changes(plan, data.manifest, tokenizer)]
    if manifest:
        changes = [
            *plan_changes(manifest, plan),
            *content_changes(manifest, base=base, dataset=data.manifest),
            *changes,
        ]
    remarks = insist_unchanged(changes, flags=flags, run=run)
    return with_remarks(found, remarks) if found else None


def data_changes(plan: Plan, prepared: PreparedDataset, tokenizer: ChatTokenizer) -> Iterator[Change]:
    """Compare the files of rows, the template and the tokenizer with those the rows were prepared with."""
    from finetune_exe.training.resume import ALLOW_DATA_CHANGE, Change

    before = {source.path: source.sha256 for source in prepared.sources}
    now = _files_now(plan)
    if sorted(before.values()) != sorted(now.values()):
        for path in sorted(before.keys() | now.keys()):
            then, today = before.get(path, "not there"), now.get(path, "not there")
            if then != today:
                yield Change(path, then[:12], today[:12], "the rows stay as they were prepared", ALLOW_DATA_CHANGE)
    for name, then, today in (
        ("the chat template", prepared.template_digest, tokenizer.template_digest),
        ("the tokenizer", prepared.tokenizer_digest, tokenizer.tokenizer_digest),
    ):
        if then != today:
            yield Change(name, then[:12], today[:12], "other tokens: another run", None)


def _files_now(plan: Plan) -> dict[str, str]:
    """Hash the plan's files of rows; those that are gone are not among them."""
    from finetune_exe.data.sides import plan_sources

    try:
        described = [entry.source.describe(num_rows=0) for entry in plan_sources(plan.data)]
    except FineTuneError as fault:
        if fault.code not in ("C05", "D07"):
            raise
        return {}
    return {source.path: source.sha256 for source in described}
