"""Open a data file, whatever it is packed and encoded in, as lines of UTF-8."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from finetune_exe.errors import FineTuneError

HEAD_BYTES = 65536
BINARY_KINDS = {
    b"ARROW1": ("an Arrow file", "save it as Parquet or JSONL"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "unpack it first: zstd -d FILE"),
    b"PK\x03\x04": ("a ZIP archive", "unpack it first: unzip FILE"),
    b"\xfd7zXZ": ("compressed with xz", "unpack it first: xz -d FILE"),
    b"BZh": ("compressed with bzip2", "unpack it first: bzip2 -d FILE"),
    b"SQLite": ("a SQLite database", "export the table as CSV or JSONL"),
    b"\x80\x04\x95": ("a Python pickle", "save it as JSONL; pickles run code when they are read"),
}


def utf8_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a text file, line ends included, as UTF-8 without byte order mark.

    Gzip is unpacked; UTF-16, bare carriage returns and byte order marks are made plain. Bytes that are not UTF-8
    are passed on as they are.

    Raises:
        FineTuneError: D01 for a binary file, a damaged archive, or a file the system does not let us read.
    """
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            file = cast("BinaryIO", gzip.GzipFile(fileobj=plain)) if packed else plain
            yield from _decoded(file, path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as fault:
        raise unreadable(path, f"the gzip file is damaged: {fault}", "fetch the file again") from fault
    except UnicodeError as fault:
        raise unreadable(path, f"the text is damaged: {fault}", "save the file as UTF-8") from fault
    except OSError as fault:
        raise unreadable(
            path, f"the system says: {fault.strerror or fault}", "check the path and its rights"
        ) from fault


def decode(line: bytes, *, path: Path, number: int, offset: int) -> str:
    """Decode a line whose file cannot be read in part.

    Args:
        line: Its bytes.
        path: The file.
        number: The line's number, from 1.
        offset: Bytes before the line.

    Raises:
        FineTuneError: D01 where it is not UTF-8.
    """
    try:
        return line.decode()
    except UnicodeDecodeError as fault:
        raise unreadable(
            path,
            f"byte {offset + fault.start:,} (0x{line[fault.start]:02x}, line {number}) is not UTF-8",
            f"convert it from its own encoding, as in: iconv -f CP1252 -t UTF-8 {path.name} > utf8_{path.name}",
        ) from fault


def unreadable(path: Path, why: str, fix: str, *, line: int | None = None) -> FineTuneError:
    """Say that a file as a whole cannot be read as data."""
    return FineTuneError(
        "D01",
        what="the file cannot be read as data",
        where=f"{path}, line {line}" if line is not None else str(path),
        why=why,
        fix=fix,
    )


def _decoded(file: BinaryIO, path: Path) -> Iterator[bytes]:
    head = file.read(HEAD_BYTES)
    file.seek(0)
    for magic, (kind, fix) in BINARY_KINDS.items():
        if head.startswith(magic):
            raise unreadable(path, f"it is {kind}", fix)
    codec = _codec(head)
    if codec == "utf-8" and b"\0" in head:
        zero = head.index(b"\0")
        raise unreadable(
            path,
            f"byte {zero:,} is zero, as in a binary file",
            "give JSONL, JSON, CSV, TSV, Parquet or plain text; or remove that byte",
            line=head.count(b"\n", 0, zero) + 1,
        )
    if codec != "utf-8" or (b"\r" in head and b"\n" not in head):
        errors = "strict" if codec != "utf-8" else "surrogateescape"
        wrapper = io.TextIOWrapper(file, encoding=codec, errors=errors, newline=None)
        try:
            for text in wrapper:
                yield text.encode(errors=errors).removeprefix(codecs.BOM_UTF8)
        finally:
            wrapper.detach()
        return
    for number, line in enumerate(file):
        yield line if number else line.removeprefix(codecs.BOM_UTF8)


def _codec(head: bytes) -> str:
    """Tell UTF-16 by its mark or, without one, by the zeros between the letters; all else is taken as UTF-8."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    pairs = len(head) // 2
    high, low = head[0 : 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    if not pairs or max(high, low) < 0.4 * pairs or min(high, low) > 0.05 * pairs:
        return "utf-8"
    codec = "utf-16-be" if high > low else "utf-16-le"
    text = head[: 2 * pairs].decode(codec, errors="replace")
    return codec if all(character >= " " or character in "\t\r\n" for character in set(text)) else "utf-8"
