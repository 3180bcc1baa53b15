"""Rows out of Parquet and Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from finetune_exe.data.encoding import system_faults, unreadable
from finetune_exe.data.raw import BadLine, RawRow

ARROW_FILE = b"ARROW1\0\0"


def read_parquet(path: Path) -> Iterator[RawRow | BadLine]:
    """Yield the rows of a Parquet file.

    Raises:
        FineTuneError: D01 where it is damaged.
    """
    import duckdb

    try:
        with duckdb.connect() as connection:
            cursor = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
            names = [column[0] for column in cursor.description]
            while records := cursor.fetchmany(1000):
                for record in records:
                    yield RawRow(row=dict(zip(names, map(_plain, record), strict=True)), line=None)
    except (duckdb.Error, UnicodeDecodeError) as fault:
        raise unreadable(path, f"the Parquet file is damaged: {fault}", "write the file again") from fault


def read_arrow(path: Path) -> Iterator[RawRow | BadLine]:
    """Yield the rows of an Arrow file or stream, batch by batch.

    Raises:
        FineTuneError: D01 where it is damaged or has a type that has no JSON value.
    """
    import nanoarrow
    from nanoarrow.ipc import InputStream

    with system_faults(path), path.open("rb") as file:
        if file.read(len(ARROW_FILE)) != ARROW_FILE:
            file.seek(0)
        try:
            with InputStream.from_readable(file) as source:
                for batch in nanoarrow.ArrayStream(source):
                    for record in batch.iter_py():
                        yield RawRow(row={key: _plain(value) for key, value in record.items()}, line=None)
        except (ValueError, TypeError, NotImplementedError, RuntimeError, KeyError, OverflowError, EOFError) as fault:
            why = f"the Arrow file is damaged or of a kind that cannot be read: {fault}"
            raise unreadable(path, why, "write it again, uncompressed, or as Parquet") from fault


def _plain(value: Any) -> Any:
    """Turn a value of a table into what JSON has."""
    match value:
        case None | str() | bool() | int() | float():
            return value
        case dict():
            return {str(key): _plain(held) for key, held in value.items()}
        case list() | tuple():
            return [_plain(held) for held in value]
        case datetime() | date() | time():
            return value.isoformat()
        case bytes() | bytearray():
            return bytes(value).decode(errors="backslashreplace")
        case Decimal() | UUID() | timedelta():
            return str(value)
        case _:
            return str(value)
