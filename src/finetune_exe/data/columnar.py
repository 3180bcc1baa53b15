"""Rows out of Parquet and Arrow."""

from __future__ import annotations

import glob
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from finetune_exe.data.arrow_reader import plain
from finetune_exe.data.encoding import unreadable
from finetune_exe.data.raw import BadLine, RawRow

ARROW_FIX = "write it again, uncompressed, or as Parquet"
ARROW_READER = (sys.executable, "-P", "-m", "finetune_exe.data.arrow_reader")


def read_parquet(path: Path) -> Iterator[RawRow | BadLine]:
    """Yield the rows of a Parquet file.

    Raises:
        FineTuneError: D01 where it is damaged.
    """
    import duckdb

    try:
        with duckdb.connect() as connection:
            query = "SELECT * FROM read_parquet(?, hive_partitioning = false)"  # no columns out of the names of folders
            cursor = connection.execute(query, [glob.escape(str(path))])
            names = [column[0] for column in cursor.description]
            while records := cursor.fetchmany(1000):
                for record in records:
                    yield RawRow(row=dict(zip(names, map(plain, record), strict=True)), line=None)
    except (duckdb.Error, UnicodeDecodeError) as fault:
        raise unreadable(path, f"the Parquet file is damaged: {fault}", "write the file again") from fault


def read_arrow(path: Path) -> Iterator[RawRow | BadLine]:
    """Yield the rows of an Arrow file or stream, batch by batch, decoded in a process that may fail by itself.

    Raises:
        FineTuneError: D01 where it is damaged or has a type that has no JSON value.
    """
    import msgspec

    decode = msgspec.json.Decoder().decode
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen([*ARROW_READER, str(path.resolve())], stdout=subprocess.PIPE, stderr=complaints) as reader,
    ):
        assert reader.stdout is not None
        try:
            for line in reader.stdout:
                if line.endswith(b"\n"):
                    yield RawRow(row=decode(line), line=None)
        except BaseException:
            reader.kill()
            raise
        status = reader.wait()
        complaints.seek(0)
        said = complaints.read(1000).decode(errors="replace").strip()
    if status > 0:
        raise unreadable(path, f"the Arrow file is damaged or of a kind that cannot be read: {said}", ARROW_FIX)
    if status < 0:
        raise unreadable(path, f"the Arrow file is damaged: decoding it breaks off (signal {-status})", ARROW_FIX)
