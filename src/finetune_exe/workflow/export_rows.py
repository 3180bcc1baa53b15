"""Write a prepared dataset for other programs: Parquet files, or a folder of the `datasets` library.

Columns: `input_ids`, `labels` (-100 where a token is not learned, as trainers of this field have it), `source`,
`group` and `conversation` (JSON). One row is one training sequence.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Literal

from finetune_exe.atomic import io_faults, new_folder
from finetune_exe.domain.dataset import SPLITS, SplitName
from finetune_exe.errors import missing_component
from finetune_exe.prepared.store import PreparedFolder, load_dataset

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
