"""Logs of Inspect as it keeps them: a ZIP archive in which each sample of each epoch is a JSON file of its own.

Nothing is unpacked onto the disk, and no more than a limit into memory.

Source: inspect_ai 0.3.285, log/_recorders/eval.py (a sample logged again is the last of its name) and
_util/zip_common.py (members are stored, deflated, or packed with Zstandard).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from zipfile import BadZipFile, ZipFile, ZipInfo

ZIP = b"PK\x03\x04"
"""What archives begin with."""
_ZSTANDARD = 93
_NAME_LENGTH, _LOCAL_HEADER = 26, 30
"""Of a member's own header: where the lengths of its name and of what follows it stand, and where the name does."""


def samples_of(content: bytes, *, most_bytes: int) -> Iterator[bytes]:
    """Give the JSON of each sample.

    Args:
        content: The archive.
        most_bytes: Of all samples together, unpacked.

    Raises:
        OSError: Where it is damaged, larger, or no log of Inspect.
    """
    import zstandard

    try:
        with ZipFile(BytesIO(content)) as archive:
            names = {m.filename: m for m in archive.infolist() if m.filename.startswith("samples/")}
            samples = [member for name, member in names.items() if name.endswith(".json")]
            if not samples:
                raise OSError(0, "it is a ZIP archive, but no log of Inspect: it holds no samples/*.json")
            for member in samples:
                unpacked = _unpacked(archive, content, member, most_bytes + 1)
                most_bytes -= len(unpacked)
                if most_bytes < 0:
                    raise OSError(0, "it unpacks to more than a gigabyte")
                yield unpacked
    except (
        BadZipFile,
        EOFError,
        NotImplementedError,
        RuntimeError,
        struct.error,
        zlib.error,
        zstandard.ZstdError,
    ) as fault:
        why = f"the archive is damaged or encrypted ({fault}); Inspect itself may still read it: inspect log dump LOG"
        raise OSError(0, why) from fault


def _unpacked(archive: ZipFile, content: bytes, member: ZipInfo, most_bytes: int) -> bytes:
    """Unpack so much of a member at most; Zstandard is unknown to zipfile before Python 3.14."""
    if member.compress_type != _ZSTANDARD:
        with archive.open(member) as file:
            return file.read(most_bytes)
    import zstandard

    lengths = content[member.header_offset + _NAME_LENGTH :][:4]
    start = (
        member.header_offset
        + _LOCAL_HEADER
        + int.from_bytes(lengths[:2], "little")
        + int.from_bytes(lengths[2:], "little")
    )
    packed = BytesIO(content[start : start + member.compress_size])
    unpacked: bytes = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True).read(most_bytes)
    if len(unpacked) < most_bytes and zlib.crc32(unpacked) != member.CRC:
        raise BadZipFile(f"{member.filename} is not whole")
    return unpacked
