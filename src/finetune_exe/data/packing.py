"""Unpack compressed files block by block: as far as they go, and never without bound."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from finetune_exe.data.faults import FileNote, Tell, file_note

BLOCK_BYTES = 1 << 16
"""Bytes read at a time: as many as a pipe of Linux holds."""
FREE_BYTES = 64 << 20
"""A file may unpack to so much whatever its packed size."""
MOST_TIMES = 400
"""Beyond that, to so many times its packed size; real rows unpack to about ten times, one row repeated to a hundred."""
WINDOW_BYTES = 128 << 20
"""Most memory an archive may ask for to be unpacked."""
ZSTD_STEP = 512
"""Packed bytes given to zstd at once: it cannot be stopped inside a call, and may make 128 KiB out of four bytes."""


class _Part(Protocol):
    """What unpacks one gzip member, zstd frame or bzip2 or xz stream."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max(0, max_length))


class _Zstd:
    def __init__(self) -> None:
        import zstandard

        self._frame = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).decompressobj()
        self._waiting = b""

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data + self._waiting

    @property
    def needs_input(self) -> bool:
        return not self._waiting

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        import zstandard

        data = self._waiting + data
        self._waiting = data[ZSTD_STEP:]
        try:
            return self._frame.decompress(data[:ZSTD_STEP])
        except zstandard.ZstdError as fault:
            raise zlib.error(str(fault)) from fault


class Packing(NamedTuple):
    """A way to compress files."""

    name: str
    magic: bytes
    suffixes: tuple[str, ...]
    part: Callable[[], _Part]


PACKINGS = (
    Packing("gzip", b"\x1f\x8b", (".gz", ".gzip"), _Gzip),
    Packing("zstd", b"\x28\xb5\x2f\xfd", (".zst", ".zstd"), _Zstd),
    Packing("bzip2", b"BZh", (".bz2",), bz2.BZ2Decompressor),
    Packing("xz", b"\xfd7zXZ\x00", (".xz",), lambda: lzma.LZMADecompressor(memlimit=WINDOW_BYTES)),
)
PACKED_SUFFIXES = tuple(suffix for packing in PACKINGS for suffix in packing.suffixes)


def packing_of(start: bytes) -> Packing | None:
    """Tell by its first bytes how a file is compressed, if it is."""
    return next((packing for packing in PACKINGS if start.startswith(packing.magic)), None)


def unpacked(file: BinaryIO, packing: Packing, path: Path, tell: Tell) -> Iterator[bytes]:
    """Yield the content as far as it can be unpacked; damage and bombs are told, and end it."""
    part = packing.part()
    fed = given = 0
    block = b""
    while True:
        if part.eof:
            block = part.unused_data.lstrip(b"\0") or file.read(BLOCK_BYTES).lstrip(b"\0")
            if not block:
                return
            part = packing.part()
        elif part.needs_input and not block:
            block = file.read(BLOCK_BYTES)
            fed += len(block)
            if not block:
                tell(_damage(path, packing, given, "it ends too early"))
                return
        try:
            piece = part.decompress(block, 16 * BLOCK_BYTES)
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as fault:
            tell(_damage(path, packing, given, str(fault)))
            return
        block = b""
        given += len(piece)
        if piece:
            yield piece
        if given > max(FREE_BYTES, MOST_TIMES * fed):
            why = f"{fed:,} packed bytes make more than {given:,}, over {MOST_TIMES} times as many"
            tell(file_note("compression_bomb", path, why))
            return


def _damage(path: Path, packing: Packing, given: int, why: str) -> FileNote:
    return file_note(
        "corrupt_compression", path, f"the {packing.name} file is damaged behind byte {given:,} of its content: {why}"
    )
