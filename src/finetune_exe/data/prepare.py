"""Turn the plan's data into a prepared dataset in which every row is accounted for.

Rows stream through: they are read once into shards on disk, each shard is encoded by whatever worker is free, and the
splits are put together from the shards in the order of the rows. So the bytes do not depend on how many workers there
were or which was first, memory holds a few hundred bytes a row, and a run that was killed goes on where it was.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from finetune_exe.atomic import io_faults, require_new, take_place
from finetune_exe.data.assemble import assemble
from finetune_exe.data.certificate import CERTIFICATE, certify
from finetune_exe.data.duplicates.rows import choose_rows
from finetune_exe.data.encoded import TOOLS_NOT_WRITTEN, lacks_tools
from finetune_exe.data.ingest import SourceRows, open_sources
from finetune_exe.data.intake import LEAKS, Intake, Progress, draw, lost_canaries, take_in
from finetune_exe.data.launch import Launch, run_jobs
from finetune_exe.data.manifest import describe
from finetune_exe.data.membership import changed_sides, require_frozen, write_members
from finetune_exe.data.parity import compare_engines
from finetune_exe.data.shards import Condemned, ShardJob
from finetune_exe.data.sides import PlannedSource, Sides, plan_sources, share_out
from finetune_exe.data.spool import merge_lines
from finetune_exe.domain.dataset import SPLITS, Drop, PreparedDataset
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.task import FormatName
from finetune_exe.errors import RESUMABLE, FineTuneError
from finetune_exe.prepared.shards import ALTERED, LOST, read_summary, shard_array
from finetune_exe.prepared.store import MANIFEST
from finetune_exe.text.conversation import Conversation
from finetune_exe.text.formats.stored import from_json
from finetune_exe.text.tokenizer import ChatTokenizer

REJECTED = "rejected.jsonl"
COMPARED_ROWS = 200
"""Training rows that other engines render too."""


def prepare(
    plan: Plan,
    tokenizer: ChatTokenizer,
    folder: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    num_workers: int | None = None,
    launch: Launch = "local",
) -> PreparedDataset:
    """Read, check, deduplicate, draw, encode, split and write the plan's data.

    Args:
        plan: Its `data` group and `seed` decide everything.
        tokenizer: The base model's.
        folder: Where the dataset shall be; it is there whole or not at all. What is unfinished lies beside it, in a
            hidden folder, and is used again by the next run.
        overwrite: Replace what is there.
        progress: Told how far it is.
        num_workers: Processes that encode; None takes one for each core, and none for few rows.
        launch: Whether they run on this machine or on a Ray cluster.

    Returns:
        The manifest. Rows that were dropped, but for those merely not drawn, stand in `rejected.jsonl` beside it, and
        rows that were changed in `altered.jsonl`, before and after.

    Raises:
        FineTuneError: O01 where the folder exists; C02, C05, D01 to D04, D07 to D09, D30 for the data; I01 while
            writing; D31 where workers die.
    """
    require_new(folder, overwrite=overwrite)
    tell = progress or (lambda stage, done, total: None)
    planned = plan_sources(plan.data)
    opened = open_sources([entry.source for entry in planned], format_name=plan.data.format)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    try:
        with io_faults(folder):
            unfinished.mkdir(parents=True, exist_ok=True)
            rows = take_in(opened, [entry.side for entry in planned], plan, unfinished, tell)
            jobs = _jobs(rows, plan, tokenizer, unfinished, opened[0].detection.format.name)
            num_drawn = sum(job.num_drawn for job in jobs)
            run_jobs(jobs, tokenizer, launch=launch, num_workers=num_workers, told=_counting(tell, "encode", num_drawn))
            manifest = _finish(plan, tokenizer, planned, opened, rows, jobs, unfinished, folder, tell)
            shutil.rmtree(unfinished)
    except FineTuneError as fault:
        if fault.exit_status != RESUMABLE:
            shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return manifest


def _jobs(rows: Intake, plan: Plan, tokenizer: ChatTokenizer, work: Path, format_name: FormatName) -> list[ShardJob]:
    """Draw at most `data.max_rows` rows before the costly encoding, and make a job of each shard."""
    drawn, given = draw(rows, plan, work), tokenizer.given_template
    jobs = []
    for shard in rows.spool.shards:
        numbers = range(shard.num_rows)
        own = tuple(number for number in numbers if drawn[shard.first + number])
        jobs.append(ShardJob(
            rows=str(shard.path.resolve()), rows_digest=shard.digest, drawn=None if len(own) == len(numbers) else own,
            num_drawn=len(own), shards=str(work.resolve()), model=str(tokenizer.folder.resolve()),
            chat_template=given if given is None or given == "plain" else str(Path(given).resolve()),
            tokenizer_digest=tokenizer.tokenizer_digest, template_digest=tokenizer.template_digest,
            max_length=plan.data.max_length, on_too_long=plan.data.on_too_long, format_name=format_name,
            condemned=tuple(
                Condemned(number, rows.condemned[shard.first + number])
                for number in numbers if shard.first + number in rows.condemned
            ),
            paired=plan.objective.kind == "dpo",
        ))  # fmt: skip
    return jobs


def _finish(
    plan: Plan,
    tokenizer: ChatTokenizer,
    planned: Sequence[PlannedSource],
    opened: Sequence[SourceRows],
    rows: Intake,
    jobs: Sequence[ShardJob],
    unfinished: Path,
    folder: Path,
    tell: Progress,
) -> PreparedDataset:
    """Split the encoded rows, write everything, and put it in its place."""
    summaries = [_summary(job) for job in jobs]
    for summary in summaries:
        rows.account.add_shard(summary)
    if plan.data.on_too_long == "refuse":
        rows.account.refuse_too_long(plan.data.max_length)
    kept = _kept(rows, jobs)
    if len(kept) < len(SPLITS):
        raise _too_few(len(kept), rows.seen.total(), rows.account.dropped.drops())
    sides = _sides(rows, kept, plan)
    tell("write", 0, len(kept))
    work = unfinished / "dataset"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    shards = [job.target for job in jobs]
    assembled = assemble(
        work, shards, sides.numbers, sides.families, vocabulary_size=tokenizer.vocabulary_size,
        written=_counting(tell, "write", len(kept)),
    )  # fmt: skip
    early = [path for path in (rows.lost, unfinished / LEAKS) if path.exists()]
    merge_lines(work / REJECTED, early, shards=[shard / LOST for shard in shards])
    merge_lines(work / ALTERED, [], shards=[shard / ALTERED for shard in shards])
    members = write_members(work, rows.words.exact[kept], sides.numbers)
    require_frozen(plan.data, members, where=folder)
    first = _first_rows(work)
    notes = [] if tokenizer.pad_reason is None else [tokenizer.pad_reason]
    if any(lacks_tools(row, tokenizer) for row in first):
        notes.append(f"{TOOLS_NOT_WRITTEN.message}; {TOOLS_NOT_WRITTEN.fix}")
    notes += (*sides.notes, *changed_sides(folder, work), *lost_canaries(rows, kept, plan))
    manifest = describe(
        plan, tokenizer, planned, opened[0].detection, rows, assembled, work, jobs,
        members=members, split_evidence=sides.evidence, notes=tuple(notes),
    )  # fmt: skip
    parity = compare_engines(first, tokenizer)
    certify(manifest, summaries, tokenizer).model_copy(update={"parity": parity}).write(work / CERTIFICATE)
    manifest.write(work / MANIFEST)
    tell("write", len(kept), len(kept))
    take_place(work, folder)
    return manifest


def _summary(job: ShardJob) -> dict[str, Any]:
    summary = read_summary(job.target)
    assert summary is not None, job.target
    return summary


def _kept(rows: Intake, jobs: Sequence[ShardJob]) -> list[int]:
    """List the numbers of the rows that were encoded, among those that were read and kept."""
    kept: list[int] = []
    for shard, job in zip(rows.spool.shards, jobs, strict=True):
        kept += (shard.first + shard_array(job.target, "kept")).tolist()
    return kept


def _sides(rows: Intake, kept: Sequence[int], plan: Plan) -> Sides:
    words = choose_rows(rows.words, np.array(kept, np.int64))
    groups, sides = [rows.groups[row] for row in kept], [rows.sides[row] for row in kept]
    drawn = share_out(words, groups, sides, plan.data, seed=plan.seed)
    left_in = Counter(leak.kind for leak in rows.leaks) if plan.data.on_leak == "keep" else {}
    notes = (f"{count:,} training rows give away held-out ones (leak_{kind})" for kind, count in left_in.items())
    return replace(drawn, evidence=(*drawn.evidence, *notes))


def _too_few(kept: int, seen: int, drops: Sequence[Drop]) -> FineTuneError:
    worst = drops[0] if drops else None
    return FineTuneError(
        "D04",
        what=f"{kept:,} of {seen:,} rows are left; training, validation and test need one each at least",
        where=f"first at {worst.first}" if worst else "data.paths",
        why=f"{worst.count:,} rows: {worst.message} ({worst.code})" if worst else "there are no more",
        fix=worst.fix if worst else "add data",
    )


def _first_rows(work: Path) -> list[Conversation]:
    """Read the first training rows, as they were trained on."""
    with (work / "train.rows.jsonl").open("rb") as file:
        return [from_json(json.loads(line)["conversation"]) for line in islice(file, COMPARED_ROWS)]


def _counting(tell: Progress, stage: str, total: int) -> Callable[[int], None]:
    """Add up rows that are done and tell of it."""
    done = 0

    def add(num_rows: int) -> None:
        nonlocal done
        done += num_rows
        tell(stage, done, total)

    return add
