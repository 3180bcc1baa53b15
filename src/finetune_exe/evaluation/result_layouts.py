"""The layouts that per-item results come in, each turned into rows: JSON lines, JSON, CSV, TSV, Parquet and archives.

Read are

- one JSON object a line;
- one JSON document: a list of objects, an object that holds one such list beside other things, or a number for each
  item (`{"q1": 1, "q2": 0}`);
- tables, with the names of the fields in their first line, or as Parquet; where semicolons part the cells, commas are
  decimal;
- what other tools write for each item (`tool_rows`), one a line or in their documents;
- Inspect's own archives (`inspect_archive`);
- the results of EvalPlus, each solution a row of its own;
- the logs of OpenAI's evals: their events of each sample together (`event_logs`);
- the statistics of HELM: those of each answer together (`helm_stats`).
"""

from __future__ import annotations

import csv
import glob
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from finetune_exe.evaluation.event_logs import Row, is_event, rows_of_events
from finetune_exe.evaluation.helm_stats import is_stats, rows_of_stats
from finetune_exe.evaluation.inspect_archive import ZIP, samples_of
from finetune_exe.evaluation.summary_files import summary_of
from finetune_exe.evaluation.tool_rows import tool_of

ITEM_NAMES = (
    "item",
    "id",
    "item_id",
    "doc_id",
    "task_id",
    "question_id",
    "sample_id",
    "example_id",
    "prompt_id",
    "uid",
    "user_input",
)
SCORE_NAMES = ("score", "correct", "is_correct", "passed", "acc", "accuracy", "exact_match", "em", "f1")
"""What items and scores are mostly called, ours first."""
_MOST_BYTES = 1 << 30
"""Of an unpacked file."""
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
"""What files begin with."""


class Cell(str):
    """Text of a table: a number only where one is asked for, since `12e5` may be a name."""

    __slots__ = ()

    def value(self) -> float | bool | str:
        """Give the number or the truth value that it spells, else its text."""
        plain = self.strip().lower()
        truth = {"true": True, "false": False}.get(plain)
        if truth is not None:
            return truth
        try:
            return float(plain.removesuffix("%"))
        except ValueError:
            return str(self)


class CommaCell(Cell):
    """Text of a table in which semicolons part the cells, so that commas are free for decimals."""

    __slots__ = ()

    def value(self) -> float | bool | str:
        """Give what it spells with a decimal comma."""
        return Cell(self.replace(",", ".")).value() if self.count(",") == 1 else super().value()


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a file of any layout.

    Raises:
        OSError: Where it cannot be read, is damaged, or unpacks to more than a gigabyte.
        UnicodeDecodeError: Where it is no UTF-8.
    """
    content = path.read_bytes()
    if content.startswith(_PARQUET):
        return _rows_of_parquet(path)
    if content.startswith(ZIP):
        samples = enumerate(samples_of(content, most_bytes=_MOST_BYTES), start=1)
        return [_row_of_json(place, sample.decode()) for place, sample in samples]
    return list(_rows_of_text(_unpack(content).decode("utf-8-sig"), path.name))


def _unpack(content: bytes) -> bytes:
    """Unpack what gzip packed."""
    if not content.startswith(_GZIP):
        return content
    try:
        with gzip.open(BytesIO(content)) as file:
            unpacked = file.read(_MOST_BYTES + 1)
    except (EOFError, zlib.error) as fault:
        raise OSError(0, "the packed file is damaged") from fault
    if len(unpacked) > _MOST_BYTES:
        raise OSError(0, "it unpacks to more than a gigabyte")
    return unpacked


def _rows_of_parquet(path: Path) -> list[Row]:
    import duckdb

    query = "SELECT * FROM read_parquet(?, hive_partitioning = false)"  # no columns out of the names of folders
    try:
        with duckdb.connect() as connection:
            cursor = connection.execute(query, [glob.escape(str(path))])
            names = [column[0] for column in cursor.description]
            records = cursor.fetchall()
    except (duckdb.Error, UnicodeDecodeError) as fault:
        raise OSError(0, f"the Parquet file is damaged: {fault}") from fault
    return [
        _row(place, dict(zip(names, map(_of_json, record), strict=True)))
        for place, record in enumerate(records, start=1)
    ]


def _of_json(value: Any) -> Any:
    """Turn a value of a column into one that JSON has."""
    match value:
        case None | str() | bool() | int() | float():
            return value
        case Decimal():
            return float(value)
        case dict():
            return {str(key): _of_json(held) for key, held in value.items()}
        case list() | tuple():
            return [_of_json(held) for held in value]
        case _:
            return str(value)


def _rows_of_text(text: str, name: str) -> Iterator[Row]:
    """Give the rows of a text; the ending of the file's name tells a table."""
    name = name.lower().removesuffix(".gz")
    if name.endswith((".csv", ".tsv")):
        first = text.partition("\n")[0]
        return _table(text, "\t" if name.endswith(".tsv") else max(",;", key=first.count))
    rows = _document(text)
    if rows is None:
        rows = list(_lines(text))
    if any(is_event(row.content) for row in rows):
        return rows_of_events(rows)
    return rows_of_stats(rows) if any(is_stats(row.content) for row in rows) else iter(rows)


def _table(text: str, delimiter: str) -> Iterator[Row]:
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    cell = CommaCell if delimiter == ";" else Cell
    try:
        for cells in reader:
            fault = "it has more cells than the first line has names" if None in cells else None
            row = {key: cell(value) if value else None for key, value in cells.items() if key}
            yield Row(reader.line_num, _named(row), fault)
    except csv.Error as fault:
        yield Row(reader.line_num, {}, f"it is no line of a table: {fault}")


def _document(text: str) -> list[Row] | None:
    """Read one JSON document that holds the rows, or is one itself; None where each line is a row of its own."""
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(document, dict):
        document = (None if summary_of(document) else _inner(document)) or [document]
    elif not any(isinstance(row, dict) for row in document):
        return None
    return [_row(place, row) for place, row in enumerate(document, start=1)]


def _inner(document: Mapping[str, Any]) -> list[Any] | None:
    """Find the rows that an object holds; None where it is a row itself."""
    tasks = document.get("eval")
    if isinstance(tasks, dict) and tasks and all(map(_are_solutions, tasks.values())):
        return [row for task, solutions in tasks.items() for row in _samples(task, solutions)]
    if len(document) == 1 and isinstance(only := next(iter(document.values())), dict):
        return _inner(only)
    inner = document.get("results")
    values = [*document.values(), *(inner.values() if isinstance(inner, dict) else ())]
    lists = [value for value in values if isinstance(value, list) and value and isinstance(value[0], dict)]
    of_tools = [rows for rows in lists if any(tool_of(row) is not None for row in rows)]
    if not {"doc_id", "item"} & document.keys() and 1 in (len(of_tools), len(lists)):
        return (of_tools or lists)[0]
    if len(document) > 1 and all(isinstance(value, int | float) for value in document.values()):
        is_row = not document.keys().isdisjoint((*ITEM_NAMES, "score"))
        return None if is_row else [{"item": item, "score": value} for item, value in document.items()]
    return None


def _are_solutions(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) and "base_status" in v for v in value)


def _samples(task: str, solutions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Judge solutions by the harder tests where all were run."""
    status = "plus_status" if all(solution.get("plus_status") for solution in solutions) else "base_status"
    return [{"task_id": task, "passed": solution[status] == "pass"} for solution in solutions]


def _lines(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _row_of_json(number, line)


def _row_of_json(number: int, text: str) -> Row:
    try:
        return _row(number, json.loads(text))
    except RecursionError:
        return Row(number, {}, "it is nested too deeply")
    except json.JSONDecodeError as fault:
        return Row(number, {}, f"it is no JSON: {fault.msg} at column {fault.colno}")
    except ValueError as fault:
        return Row(number, {}, str(fault))


def _row(number: int, row: Any) -> Row:
    if not isinstance(row, dict):
        return Row(number, {}, f"it is {json.dumps(row)[:40]}, not an object")
    return Row(number, _named(row))


def _named(row: dict[str, Any]) -> dict[str, Any]:
    """Name the fields of another tool as ours; of any, metrics in an object of their own are fields where none is."""
    tool = tool_of(row)
    if tool is not None:
        return tool.named(row)
    metrics = next((row[name] for name in ("metrics", "scores") if isinstance(row.get(name), dict)), None)
    if metrics is None or not row.keys().isdisjoint(SCORE_NAMES):
        return row
    return {**metrics, **row, "metrics": list(metrics)}
