"""Turn the plan's data into a prepared dataset in which every row is accounted for.

Rows stream through: they are read once into shards on disk, each shard is encoded by whatever worker is free, and the
splits are put together from the shards in the order of the rows. So the bytes do not depend on how many workers there
were or which was first, memory holds a few hundred bytes a row, and a run that was killed goes on where it was.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_exe import __version__
from finetune_exe.atomic import io_faults, output_exists
from finetune_exe.data.account import Account
from finetune_exe.data.assemble import Assembled, assemble
from finetune_exe.data.certificate import CERTIFICATE, certify
from finetune_exe.data.cleaning.cleaner import Cleaner
from finetune_exe.data.cleaning.policy import read_policy
from finetune_exe.data.duplicates.rows import RowText, choose_rows, join_rows, row_text, words_of_rows
from finetune_exe.data.ingest import LostRow, SourceRows, ingest, open_sources
from finetune_exe.data.launch import Launch, run_jobs
from finetune_exe.data.parity import compare_engines
from finetune_exe.data.shards import Condemned, ShardJob, address_of
from finetune_exe.data.sides import LeakingRow, PlannedSource, Sides, leaking_rows, plan_sources, share_out
from finetune_exe.data.split import draw_rows
from finetune_exe.data.spool import Spool, lost_line, merge_lines, read_spooled, write_lines
from finetune_exe.data.token_report import report_tokens
from finetune_exe.domain.dataset import SPLITS, Drop, MaskProof, PreparedDataset, SourceFile, SplitName
from finetune_exe.domain.plan import Plan
from finetune_exe.errors import RESUMABLE, FineTuneError
from finetune_exe.prepared.shards import ALTERED, LOST, read_summary, shard_array
from finetune_exe.prepared.store import MANIFEST, SequenceView
from finetune_exe.text.conversation import Conversation, RowFault
from finetune_exe.text.formats.stored import from_json, to_json
from finetune_exe.text.tokenizer import ChatTokenizer

if TYPE_CHECKING:
    from finetune_exe.data.duplicates.rows import RowWords

Progress = Callable[[str, int, int], None]
"""Called with the stage ("read", "encode", "write"), rows done, and rows in all (0 where not known yet)."""
PROGRESS_ROWS = 100
NOT_DRAWN = RowFault(
    code="not_drawn", message="data.max_rows leaves it out of the draw", fix="raise data.max_rows to use it"
)
REJECTED = "rejected.jsonl"
LEAKS = "leaks.jsonl"
WORDS_ROWS = 2000
"""Rows whose words are hashed at a time."""
COMPARED_ROWS = 200
"""Training rows that other engines render too."""
SAMPLE_ROWS = 300
"""Rows looked at for tokens per word."""


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
        FineTuneError: O01 where the folder exists; C02, C05, D01 to D04, D07, D08, D30 for the data; I01 while writing;
            D31 where workers die.
    """
    if folder.exists() and not overwrite:
        raise output_exists(folder)
    tell = progress or (lambda stage, done, total: None)
    planned = plan_sources(plan.data)
    opened = open_sources([entry.source for entry in planned], format_name=plan.data.format)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    try:
        with io_faults(folder):
            unfinished.mkdir(parents=True, exist_ok=True)
            rows = _read(opened, [entry.side for entry in planned], plan, unfinished, tell)
            jobs = _jobs(rows, plan, tokenizer, unfinished, opened[0].detection.format.name)
            num_drawn = sum(_num_rows(job, rows, number) for number, job in enumerate(jobs))
            run_jobs(jobs, tokenizer, launch=launch, num_workers=num_workers, told=_counting(tell, "encode", num_drawn))
            manifest = _finish(plan, tokenizer, planned, opened, rows, jobs, unfinished, folder, tell)
            shutil.rmtree(unfinished)
    except FineTuneError as fault:
        if fault.exit_status != RESUMABLE:
            shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What reading came to: kept rows in shards on disk, lost ones in a file, and what must be known of all."""

    spool: Spool
    groups: list[str]
    """Of each kept row."""
    columns: list[str | None]
    """Of each kept row: its group, where its column names one."""
    sides: list[SplitName | None]
    """Of each kept row: the side its file is meant for."""
    words: list[RowWords]
    """Of the kept rows: one entry, once all are read."""
    leaks: list[LeakingRow]
    """Rows that give away others which are held out."""
    indices: list[int]
    """Of each kept row: its number among all rows."""
    places: list[str]
    seen: Counter[int]
    account: Account
    lost: Path
    condemned: dict[int, RowFault]
    """Of the kept rows, those that the plan's policy drops, by number."""


def _read(
    opened: Sequence[SourceRows], sides: Sequence[SplitName | None], plan: Plan, work: Path, tell: Progress
) -> _Read:
    """Read all rows; the kept ones go into shards."""
    rows = _Read(spool=Spool(work), groups=[], columns=[], sides=[], words=[], leaks=[], indices=[], places=[],
                 seen=Counter(), account=Account(), lost=work / "lost.jsonl", condemned={})  # fmt: skip
    cleaner = Cleaner(read_policy(plan.data))
    texts: list[RowText] = []
    column = plan.data.group_by
    columns: Counter[str] = Counter()

    def lost_lines() -> Iterator[dict[str, Any]]:
        for row in ingest(opened, deduplicate=plan.data.deduplicate, mend=cleaner.mend):
            rows.seen[row.position.source] += 1
            _tell_sometimes(tell, "read", rows.seen.total(), 0)
            if isinstance(row, LostRow):
                rows.account.lose(row.fault, index=row.position.index, place=row.position.place)
                yield lost_line(row)
                continue
            columns.update(row.conversation.extra)
            named = row.conversation.extra.get(column) if column is not None else None
            cleaner.look(len(rows.groups), row.conversation)
            rows.columns.append(None if named is None else str(named))
            rows.groups.append(row.key if named is None else str(named))
            rows.sides.append(sides[row.position.source])
            rows.spool.add(row, group=rows.groups[-1])
            texts.append(row_text(row.conversation))
            if len(texts) == WORDS_ROWS:
                rows.words.append(words_of_rows(texts))
                texts.clear()
            rows.indices.append(row.position.index)
            rows.places.append(row.position.place)

    write_lines(rows.lost, lost_lines())
    rows.words[:] = [join_rows([*rows.words, words_of_rows(texts)])]
    rows.spool.close()
    rows.condemned.update(cleaner.condemned(rows.places))
    tell("read", rows.seen.total(), rows.seen.total())
    if column is not None and rows.groups and not columns[column]:
        raise _no_column(column, columns)
    return rows


def _no_column(column: str, columns: Counter[str]) -> FineTuneError:
    near = difflib.get_close_matches(column, columns, n=1)
    return FineTuneError(
        "D08",
        what=f"no row has a column {column!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        where="data.group_by",
        why=f"the columns beside the conversation are: {', '.join(sorted(columns)) or 'none'}",
        fix="name one of them, or --set data.group_by=null",
    )


def _jobs(rows: _Read, plan: Plan, tokenizer: ChatTokenizer, work: Path, format_name: Any) -> list[ShardJob]:
    """Draw at most `data.max_rows` rows before the costly encoding, and make a job of each shard."""
    drawn = _drawn(rows, plan, work)
    given = tokenizer.given_template
    template = given if given in (None, "plain") else str(Path(str(given)).resolve())
    jobs = []
    for shard in rows.spool.shards:
        own = None
        if not all(drawn[shard.first : shard.first + shard.num_rows]):
            own = tuple(n for n in range(shard.num_rows) if drawn[shard.first + n])
        condemned = tuple(
            Condemned(n, rows.condemned[shard.first + n])
            for n in range(shard.num_rows) if shard.first + n in rows.condemned
        )  # fmt: skip
        jobs.append(ShardJob(
            rows=str(shard.path.resolve()), drawn=own, shards=str(work.resolve()),
            address=address_of(shard.digest, own, condemned, tokenizer, plan.data.max_length, plan.data.on_too_long),
            model=str(tokenizer.folder.resolve()), chat_template=template,
            tokenizer_digest=tokenizer.tokenizer_digest, template_digest=tokenizer.template_digest,
            max_length=plan.data.max_length, on_too_long=plan.data.on_too_long, format_name=format_name,
            condemned=condemned,
        ))  # fmt: skip
    return jobs


def _drawn(rows: _Read, plan: Plan, work: Path) -> list[bool]:
    """Say which rows to use: not those that leak, nor more than wanted of those that no file holds out."""
    drawn = [True] * len(rows.groups)
    rows.leaks[:] = [
        leak for leak in leaking_rows(rows.words[0], rows.columns, rows.sides) if leak.row not in rows.condemned
    ]
    if plan.data.on_leak == "drop":
        write_lines(work / LEAKS, (_leak_line(rows, leak) for leak in rows.leaks))
        for leak in rows.leaks:
            drawn[leak.row] = False
    free = [row for row, side in enumerate(rows.sides) if side is None and drawn[row] and row not in rows.condemned]
    if plan.data.max_rows is not None:
        chosen = draw_rows([rows.groups[row] for row in free], max_rows=plan.data.max_rows, seed=plan.seed)
        for row in (row for row, wanted in zip(free, chosen, strict=True) if not wanted):
            drawn[row] = False
            rows.account.lose(NOT_DRAWN, index=rows.indices[row], place=rows.places[row])
    return drawn


def _leak_line(rows: _Read, leak: LeakingRow) -> dict[str, Any]:
    """Count a row that leaks, and write it down."""
    fault = leak.fault(rows.places[leak.of_row])
    rows.account.lose(fault, index=rows.indices[leak.row], place=rows.places[leak.row])
    shard = next(s for s in rows.spool.shards if s.first <= leak.row < s.first + s.num_rows)
    spooled = next(islice(read_spooled(shard.path), leak.row - shard.first, None))
    line = {"source": spooled.place, "code": fault.code, "message": fault.message, "row": to_json(spooled.conversation)}
    return {"index": spooled.index, "line": line}


def _num_rows(job: ShardJob, rows: _Read, number: int) -> int:
    return len(job.drawn) if job.drawn is not None else rows.spool.shards[number].num_rows


def _finish(
    plan: Plan,
    tokenizer: ChatTokenizer,
    planned: Sequence[PlannedSource],
    opened: Sequence[SourceRows],
    rows: _Read,
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
        rows.account.refuse("too_long", max_length=plan.data.max_length)
    kept = _kept(rows, jobs)
    if len(kept) < len(SPLITS):
        raise _too_few(len(kept), rows.seen.total(), rows.account.drops())
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
    files = tuple(entry.source.describe(num_rows=rows.seen[number]) for number, entry in enumerate(planned))
    manifest = _manifest(plan, tokenizer, planned, files, opened[0], rows, assembled, work, jobs)
    manifest = manifest.model_copy(update={"split_evidence": sides.evidence})
    parity = compare_engines(_first_rows(work), tokenizer)
    certify(manifest, summaries, tokenizer).model_copy(update={"parity": parity}).write(work / CERTIFICATE)
    manifest.write(work / MANIFEST)
    tell("write", len(kept), len(kept))
    if folder.exists():
        shutil.rmtree(folder)
    work.rename(folder)
    return manifest


def _manifest(
    plan: Plan,
    tokenizer: ChatTokenizer,
    planned: Sequence[PlannedSource],
    files: tuple[SourceFile, ...],
    opening: SourceRows,
    rows: _Read,
    assembled: Assembled,
    work: Path,
    jobs: Sequence[ShardJob],
) -> PreparedDataset:
    detection, account = opening.detection, rows.account
    drops = account.drops()
    num_kept = sum(split.num_rows for split in assembled.splits.values())
    return PreparedDataset(
        inputs={"plan": plan.digest()},
        key=_key(plan, tokenizer, planned, files),
        format=detection.format.name,
        format_evidence=detection.evidence,
        sources=files,
        seen=rows.seen.total(),
        kept=num_kept,
        dropped=drops,
        altered=account.alterations(),
        num_altered=account.num_altered,
        seen_learned_tokens=account.seen_learned_tokens,
        on_too_long=plan.data.on_too_long,
        tokens=report_tokens(
            plan, tokenizer, lengths=assembled.lengths, learned=assembled.learned, too_long=account.too_long,
            used=assembled.used, num_unknown=account.num_unknown, sample=_sample(jobs),
        ),
        splits=assembled.splits,
        mask_proof=MaskProof(
            num_proven=num_kept,
            num_disagreeing=sum(drop.count for drop in drops if drop.code == "mask_not_proven"),
            end_of_turn_learned=account.num_ends_learned == num_kept,
            stop_tokens=tokenizer.stop_tokens,
        ),
        template_digest=tokenizer.template_digest,
        tokenizer_digest=tokenizer.tokenizer_digest,
        bos_token=tokenizer.bos_token,
        pad_token_id=tokenizer.pad_token_id,
        max_length=plan.data.max_length,
        example=_example(work, tokenizer),
    )  # fmt: skip


def _summary(job: ShardJob) -> dict[str, Any]:
    summary = read_summary(job.target)
    assert summary is not None, job.target
    return summary


def _kept(rows: _Read, jobs: Sequence[ShardJob]) -> list[int]:
    """List the numbers of the rows that were encoded, among those that were read and kept."""
    kept: list[int] = []
    for shard, job in zip(rows.spool.shards, jobs, strict=True):
        kept += (shard.first + shard_array(job.target, "kept")).tolist()
    return kept


def _sides(rows: _Read, kept: Sequence[int], plan: Plan) -> Sides:
    import numpy as np

    words = choose_rows(rows.words[0], np.array(kept, np.int64))
    groups, sides = [rows.groups[row] for row in kept], [rows.sides[row] for row in kept]
    drawn = share_out(words, groups, sides, plan.data, seed=plan.seed)
    left_in = Counter(leak.kind for leak in rows.leaks) if plan.data.on_leak == "keep" else {}
    notes = (f"{count:,} training rows give away held-out ones (leak_{kind})" for kind, count in left_in.items())
    return replace(drawn, evidence=(*drawn.evidence, *notes))


def _sample(jobs: Sequence[ShardJob]) -> list[str]:
    """Take the contents of some rows, spread over the shards."""
    texts: list[str] = []
    for job in jobs[:: max(1, len(jobs) // 10)]:
        for number, row in enumerate(read_spooled(Path(job.rows))):
            if number >= SAMPLE_ROWS // min(10, len(jobs)):
                break
            texts += (message.content for message in row.conversation.messages)
    return texts


def dataset_key(plan: Plan, tokenizer: ChatTokenizer) -> str:
    """Name what `prepare` would make: equal keys mean equal datasets, so an equal one need not be made again.

    Raises:
        FineTuneError: C05 or D07 where the plan's data is not there.
    """
    planned = plan_sources(plan.data)
    return _key(plan, tokenizer, planned, [entry.source.describe(num_rows=0) for entry in planned])


def _key(plan: Plan, tokenizer: ChatTokenizer, planned: Sequence[PlannedSource], files: Sequence[SourceFile]) -> str:
    """Hash the files' content, the settings but for the paths, template, tokenizer and our version."""
    parts = {
        "files": [(file.sha256, entry.side) for file, entry in zip(files, planned, strict=True)],
        "data": plan.data.model_dump(mode="json", exclude={"paths", "validation_paths", "test_paths", "chat_template"}),
        "seed": plan.seed,
        "template": tokenizer.template_digest,
        "tokenizer": tokenizer.tokenizer_digest,
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


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


def _example(work: Path, tokenizer: ChatTokenizer) -> tuple[tuple[str, bool], ...]:
    """Decode the first training sequence in runs of learned and unlearned tokens."""
    import numpy as np

    arrays = {name: np.load(work / f"train.{name}.npy", mmap_mode="r", allow_pickle=False)
              for name in ("tokens", "learned", "offsets")}  # fmt: skip
    end = int(arrays["offsets"][1])
    sequence = SequenceView(arrays["tokens"][:end], arrays["learned"][:end])
    runs: list[tuple[list[int], bool]] = []
    for token, learned in zip(sequence.tokens.tolist(), sequence.learned.tolist(), strict=True):
        if not runs or runs[-1][1] != learned:
            runs.append(([], learned))
        runs[-1][0].append(token)
    return tuple((tokenizer.decode(ids), learned) for ids, learned in runs)


def _counting(tell: Progress, stage: str, total: int) -> Callable[[int], None]:
    """Add up rows that are done and tell of it."""
    done = 0

    def add(num_rows: int) -> None:
        nonlocal done
        done += num_rows
        tell(stage, done, total)

    return add


def _tell_sometimes(tell: Progress, stage: str, done: int, total: int) -> None:
    if done % PROGRESS_ROWS == 0 or done == total:
        tell(stage, done, total)
