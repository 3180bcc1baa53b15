"""Write a prepared dataset for other programs: Parquet files, a folder of the `datasets` library, a trainer's own form.

Columns of the first two: `input_ids`, `labels` (-100 where a token is not learned, as trainers have it), `source`,
`group` and `conversation` (JSON). One row is one training sequence.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from finetune_exe.atomic import io_faults, new_folder
from finetune_exe.domain.dataset import SPLITS, SplitName
from finetune_exe.errors import FineTuneError, missing_component
from finetune_exe.export.trainer_rows import TRAINER_ROWS, TrainerName
from finetune_exe.prepared.store import PreparedFolder, StoredRow, load_dataset
from finetune_exe.text.conversation import Conversation, RowFault
from finetune_exe.text.formats.stored import from_json
from finetune_exe.text.tokenizer import ChatTokenizer

ExportForm = Literal["parquet", "datasets"]
NOT_LEARNED = -100
LONGEST_ROW_BYTES = 1 << 30
COLUMNS = {
    "input_ids": "INTEGER[]", "labels": "INTEGER[]", "source": "VARCHAR", "group": "VARCHAR", "conversation": "VARCHAR",
}  # fmt: skip


def export_rows(folder: Path, output: Path, *, form: ExportForm, overwrite: bool) -> dict[SplitName, int]:
    """Write every split of a prepared dataset.

    Args:
        folder: The prepared dataset.
        output: Folder to make: `train.parquet` and so on, or what `datasets.load_from_disk` reads.
        form: Which of the two.
        overwrite: Replace a folder that is there.

    Returns:
        Sequences of each split.

    Raises:
        FineTuneError: D05 for the dataset, O01 where the output exists, X01 without `datasets`, I01 while writing.
    """
    prepared = load_dataset(folder)
    with new_folder(output, overwrite=overwrite) as work:
        if form == "parquet":
            return {name: _write_parquet(prepared, name, work / f"{name}.parquet") for name in SPLITS}
        with tempfile.TemporaryDirectory(dir=work.parent) as between:
            counts = {name: _write_parquet(prepared, name, Path(between) / f"{name}.parquet") for name in SPLITS}
            _save_datasets(Path(between), work)
        return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Rows that a trainer cannot be given, for one reason."""

    message: str
    fix: str
    count: int
    first: str
    """Where the first of them stood in the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerFiles:
    """What was written for a trainer: of each side, seen rows are written or left out."""

    files: dict[SplitName, str]
    num_rows: dict[SplitName, int]
    """Rows of each file; a trainer that learns one answer a row gets several of a conversation with several."""
    left_out: tuple[LeftOut, ...]


def export_for_trainer(
    folder: Path, output: Path, *, trainer: TrainerName, tokenizer: ChatTokenizer, overwrite: bool
) -> TrainerFiles:
    """Write every split of a prepared dataset as JSON lines in the form that a trainer reads.

    Args:
        folder: The prepared dataset.
        output: Folder to make.
        trainer: Whose form.
        tokenizer: The base model's; some forms hold text that its chat template wrote.
        overwrite: Replace a folder that is there.

    Raises:
        FineTuneError: D05 for the dataset, O01 where the output exists, O04 where a side has no row that can be given,
            I01 while writing.
    """
    prepared, form = load_dataset(folder), TRAINER_ROWS[trainer]
    write = (form.write_pair if prepared.manifest.paired else None) or form.write
    lost: dict[str, LeftOut] = {}
    counts: dict[SplitName, int] = {}
    with new_folder(output, overwrite=overwrite) as work:
        for name in SPLITS:
            counts[name] = 0
            path = work / form.files[name]
            with io_faults(path), path.open("w", encoding="utf-8") as file:
                for row in prepared.split(name).stream_rows():
                    written = write(_conversation(row), tokenizer)
                    if isinstance(written, RowFault):
                        known = lost.setdefault(
                            written.message,
                            LeftOut(message=written.message, fix=written.fix, count=0, first=row.source),
                        )
                        lost[written.message] = replace(known, count=known.count + 1)
                        continue
                    file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in written)
                    counts[name] += len(written)
            if not counts[name]:
                raise _nothing_left(trainer, name, tuple(lost.values()))
    return TrainerFiles(files=form.files, num_rows=counts, left_out=tuple(lost.values()))


def _conversation(row: StoredRow) -> Conversation:
    return from_json(row.conversation)


def _nothing_left(trainer: TrainerName, name: SplitName, lost: tuple[LeftOut, ...]) -> FineTuneError:
    reason = lost[0].message if lost else "the prepared dataset has none on this side"
    return FineTuneError(
        "O04",
        what=f"no row of the {name} side can be written for {trainer}",
        where=f"{lost[0].count} rows, first {lost[0].first}" if lost else f"the {name} side",
        why=reason,
        fix=lost[0].fix if lost else "give more rows",
    )


def _write_parquet(prepared: PreparedFolder, name: SplitName, path: Path) -> int:
    """Go through JSON lines, so that neither side needs more memory than a row."""
    import duckdb

    data = prepared.split(name)
    rows = data.stream_rows()
    row, position = next(rows), 0
    between = path.with_suffix(".jsonl")
    with io_faults(path), between.open("w", encoding="utf-8") as file:
        for index in range(len(data)):
            while position < data.rows[index]:
                row, position = next(rows), position + 1
            tokens, learned = data.sequence(index)
            ids = tokens.tolist()
            labels = [number if flag else NOT_LEARNED for number, flag in zip(ids, learned.tolist(), strict=True)]
            conversation = json.dumps(row.conversation, ensure_ascii=False)
            line = {
                "input_ids": ids,
                "labels": labels,
                "source": row.source,
                "group": row.group,
                "conversation": conversation,
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    with io_faults(path), duckdb.connect() as connection:
        table = connection.read_json(
            str(between), columns=COLUMNS, format="newline_delimited", maximum_object_size=LONGEST_ROW_BYTES
        )
        table.write_parquet(str(path), compression="zstd")
    between.unlink()
    return len(data)


def _save_datasets(between: Path, output: Path) -> None:
    try:
        import datasets
    except ImportError as fault:
        raise missing_component(
            "datasets", extra="hub", needed_for="writing a folder of the datasets library"
        ) from fault

    files = {name: str(between / f"{name}.parquet") for name in SPLITS}
    datasets.load_dataset("parquet", data_files=files, cache_dir=str(between / "cache")).save_to_disk(str(output))
