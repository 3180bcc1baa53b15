"""Turn the plan's data into a prepared dataset in which every row is accounted for."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from finetune_exe import __version__
from finetune_exe.atomic import new_folder, output_exists
from finetune_exe.data.encoded import EncodedRow, encode_row, ends_learned
from finetune_exe.data.ingest import KeptRow, LostRow, count_drops, ingest, open_sources
from finetune_exe.data.sources import find_sources
from finetune_exe.data.split import draw_rows, split_groups
from finetune_exe.domain.dataset import SPLITS, Drop, MaskProof, PreparedDataset, SourceFile, Split, SplitName
from finetune_exe.domain.plan import Plan
from finetune_exe.errors import FineTuneError
from finetune_exe.prepared.store import MANIFEST, PreparedRow, SequenceView, StoredRow, write_split
from finetune_exe.text.conversation import RowFault
from finetune_exe.text.formats.stored import to_json
from finetune_exe.text.tokenizer import ChatTokenizer

Progress = Callable[[str, int, int], None]
"""Called with the stage ("read", "encode", "write"), rows done, and rows in all (0 where not known yet)."""
PROGRESS_ROWS = 100
NOT_DRAWN = RowFault(
    code="not_drawn", message="data.max_rows leaves it out of the draw", fix="raise data.max_rows to use it"
)
REJECTED = "rejected.jsonl"


def prepare(
    plan: Plan, tokenizer: ChatTokenizer, folder: Path, *, overwrite: bool = False, progress: Progress | None = None
) -> PreparedDataset:
    """Read, check, deduplicate, draw, encode, split and write the plan's data.

    Args:
        plan: Its `data` group and `seed` decide everything.
        tokenizer: The base model's.
        folder: Where the dataset shall be; it is there whole or not at all.
        overwrite: Replace what is there.
        progress: Told how far it is.

    Returns:
        The manifest. Rows that were dropped, but for those merely not drawn, stand in `rejected.jsonl` beside it.

    Raises:
        FineTuneError: O01 where the folder exists; C05, D01 to D04, D07, D08 for the data; I01 while writing.
    """
    if folder.exists() and not overwrite:
        raise output_exists(folder)
    tell = progress or (lambda stage, done, total: None)
    sources = find_sources(plan.data.paths)
    opened = open_sources(sources, format_name=plan.data.format)
    rows: list[KeptRow] = []
    lost: list[LostRow] = []
    seen: Counter[int] = Counter()
    for row in ingest(opened, deduplicate=plan.data.deduplicate):
        seen[row.position.source] += 1
        if isinstance(row, KeptRow):
            rows.append(row)
        else:
            lost.append(row)
        _tell_sometimes(tell, "read", seen.total(), 0)
    tell("read", seen.total(), seen.total())
    rows, not_drawn = _draw(rows, plan)
    encoded = _encode(rows, lost, tokenizer, plan.data.max_length, tell)
    drops = count_drops([*lost, *not_drawn])
    if len(encoded) < len(SPLITS):
        raise _too_few(len(encoded), seen.total(), drops)
    groups = _groups([row.row for row in encoded], plan.data.group_by)
    sides = split_groups(
        groups,
        validation_fraction=plan.data.validation_fraction,
        test_fraction=plan.data.test_fraction,
        seed=plan.seed,
    )
    files = tuple(source.describe(num_rows=seen[number]) for number, source in enumerate(sources))
    detection = opened[0].detection
    tell("write", 0, len(encoded))
    with new_folder(folder, overwrite=overwrite) as work:
        splits = {name: _write(work, name, encoded, groups, sides) for name in SPLITS}
        _write_rejected(work / REJECTED, lost)
        manifest = PreparedDataset(
            inputs={"plan": plan.digest()},
            key=_key(plan, tokenizer, files),
            format=detection.format.name,
            format_evidence=(*detection.evidence, *_strip_note(encoded)),
            sources=files,
            seen=seen.total(),
            kept=len(encoded),
            dropped=drops,
            splits=splits,
            mask_proof=MaskProof(
                num_proven=len(encoded),
                num_disagreeing=sum(drop.count for drop in drops if drop.code == "mask_not_proven"),
                end_of_turn_learned=all(ends_learned(row, tokenizer.stop_token_ids) for row in encoded),
                stop_tokens=tokenizer.stop_tokens,
            ),
            template_digest=tokenizer.template_digest,
            tokenizer_digest=tokenizer.tokenizer_digest,
            bos_token=tokenizer.bos_token,
            pad_token_id=tokenizer.pad_token_id,
            max_length=plan.data.max_length,
            example=_example(encoded[sides.index("train")].sequences[0], tokenizer),
        )
        manifest.write(work / MANIFEST)
    tell("write", len(encoded), len(encoded))
    return manifest


def dataset_key(plan: Plan, tokenizer: ChatTokenizer) -> str:
    """Name what `prepare` would make: equal keys mean equal datasets, so an equal one need not be made again.

    Raises:
        FineTuneError: C05 or D07 where the plan's data is not there.
    """
    return _key(plan, tokenizer, [source.describe(num_rows=0) for source in find_sources(plan.data.paths)])


def _key(plan: Plan, tokenizer: ChatTokenizer, files: Sequence[SourceFile]) -> str:
    """Hash the files' content, the settings but for the paths, template, tokenizer and our version."""
    parts = {
        "files": [file.sha256 for file in files],
        "data": plan.data.model_dump(mode="json", exclude={"paths", "chat_template"}),
        "seed": plan.seed,
        "template": tokenizer.template_digest,
        "tokenizer": tokenizer.tokenizer_digest,
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _draw(rows: list[KeptRow], plan: Plan) -> tuple[list[KeptRow], list[LostRow]]:
    """Choose at most `data.max_rows` rows before the costly encoding."""
    groups = _groups(rows, plan.data.group_by)
    if plan.data.max_rows is None:
        return rows, []
    chosen = draw_rows(groups, max_rows=plan.data.max_rows, seed=plan.seed)
    pairs = list(zip(rows, chosen, strict=True))
    left_out = [LostRow(position=row.position, fault=NOT_DRAWN, row=row.raw) for row, drawn in pairs if not drawn]
    return [row for row, drawn in pairs if drawn], left_out


def _groups(rows: Sequence[KeptRow], column: str | None) -> list[str]:
    """Name each row's group: the value of its column, or what it says where it has none, so that repeats stay together.

    Raises:
        FineTuneError: D08 where no row has the column.
    """
    if column is None:
        return [row.key for row in rows]
    names = Counter(name for row in rows for name in row.conversation.extra)
    if rows and not names[column]:
        near = difflib.get_close_matches(column, names, n=1)
        raise FineTuneError(
            "D08",
            what=f"no row has a column {column!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
            where="data.group_by",
            why=f"the columns beside the conversation are: {', '.join(sorted(names)) or 'none'}",
            fix="name one of them, or --set data.group_by=null",
        )
    values = [row.conversation.extra.get(column) for row in rows]
    return [row.key if value is None else str(value) for row, value in zip(rows, values, strict=True)]


def _encode(
    rows: Sequence[KeptRow], lost: list[LostRow], tokenizer: ChatTokenizer, max_length: int, tell: Progress
) -> list[EncodedRow]:
    """Encode the rows; those that fail are added to the lost ones."""
    encoded: list[EncodedRow] = []
    for number, row in enumerate(rows, start=1):
        result = encode_row(row, tokenizer, max_length=max_length)
        if isinstance(result, LostRow):
            lost.append(result)
        else:
            encoded.append(result)
        _tell_sometimes(tell, "encode", number, len(rows))
    return encoded


def _write(
    work: Path, name: SplitName, encoded: Sequence[EncodedRow], groups: Sequence[str], sides: Sequence[SplitName]
) -> Split:
    rows = [
        PreparedRow(
            stored=StoredRow(source=row.row.position.place, group=group, conversation=to_json(row.conversation)),
            sequences=row.sequences,
        )
        for row, group, side in zip(encoded, groups, sides, strict=True)
        if side == name
    ]
    return write_split(work, name, rows)


def _write_rejected(path: Path, lost: Sequence[LostRow]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in sorted(lost, key=lambda lost_row: lost_row.position.index):
            line = {
                "source": row.position.place,
                "code": row.fault.code,
                "message": row.fault.message,
                "row": row.row,
            }
            file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")


def _too_few(kept: int, seen: int, drops: Sequence[Drop]) -> FineTuneError:
    worst = drops[0] if drops else None
    return FineTuneError(
        "D04",
        what=f"{kept:,} of {seen:,} rows are left; training, validation and test need one each at least",
        where=f"first at {worst.first}" if worst else "data.paths",
        why=f"{worst.count:,} rows: {worst.message} ({worst.code})" if worst else "there are no more",
        fix=worst.fix if worst else "add data",
    )


def _strip_note(encoded: Sequence[EncodedRow]) -> tuple[str, ...]:
    count = sum(row.stripped for row in encoded)
    return (f"{count:,} rows ended an answer with a special token written out; it was removed",) if count else ()


def _example(sequence: SequenceView, tokenizer: ChatTokenizer) -> tuple[tuple[str, bool], ...]:
    """Decode a sequence in runs of learned and unlearned tokens."""
    runs: list[tuple[list[int], bool]] = []
    for token, learned in zip(sequence.tokens.tolist(), sequence.learned.tolist(), strict=True):
        if not runs or runs[-1][1] != learned:
            runs.append(([], learned))
        runs[-1][0].append(token)
    return tuple((tokenizer.decode(ids), learned) for ids, learned in runs)


def _tell_sometimes(tell: Progress, stage: str, done: int, total: int) -> None:
    if done % PROGRESS_ROWS == 0 or done == total:
        tell(stage, done, total)
