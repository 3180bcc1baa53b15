"""Look at the header of a safetensors file before anything is loaded from it."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from finetune_exe.errors import FineTuneError

MOST_HEADER_BYTES = 100_000_000
"""Longest header the format allows. Source: safetensors, "Format", 2023."""
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


class StoredTensor(NamedTuple):
    """A tensor of a file, and where its values stand in it."""

    name: str
    dtype: str
    """As safetensors calls it: BF16."""
    shape: tuple[int, ...]
    first: int
    """Byte of the file with which the values begin."""
    last: int
    """Byte behind them."""


def check_header(path: Path) -> None:
    """Make sure that a safetensors file is what its header says, without reading more than that.

    Raises:
        FineTuneError: M12 where it is not.
    """
    stored_tensors(path)


def stored_tensors(path: Path) -> tuple[StoredTensor, ...]:
    """List the tensors of a safetensors file in the order of their values, reading its header alone.

    Raises:
        FineTuneError: M12 where the header is longer than the file or the format allows, is no JSON object, names a
            tensor twice, or places tensors outside of the file, over each other or with gaps.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            start = file.read(8)
            if len(start) < 8:
                raise ValueError(f"it has {size} bytes, and the length of the header alone takes 8")
            (length,) = struct.unpack("<Q", start)
            if length > min(MOST_HEADER_BYTES, size - 8):
                raise ValueError(f"its header claims {length:,} bytes, and the file has {size:,}")
            begin = 8 + length
            tensors = _placed(json.loads(file.read(length), object_pairs_hook=_once), size - begin)
            return tuple(t._replace(first=begin + t.first, last=begin + t.last) for t in tensors)
    except (ValueError, RecursionError) as fault:
        raise FineTuneError(
            "M12",
            what="this is no sound safetensors file",
            where=str(path),
            why=" ".join(str(fault).split())[:300],
            fix="download the file again from a place you trust; nothing of it was loaded",
        ) from fault


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse keys that come twice, of which readers take one or the other."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{name!r} comes twice in its header")
    return found


def _placed(header: Any, num_bytes: int) -> list[StoredTensor]:
    """Place the tensors in so many bytes; raise ValueError where they do not fill them one after the other."""
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    tensors = sorted(
        (_tensor(name, entry) for name, entry in header.items() if name != "__metadata__"),
        key=lambda tensor: (tensor.first, tensor.last),
    )
    end = 0
    for tensor in tensors:
        if tensor.first != end:
            raise ValueError(f"{tensor.name!r} begins at byte {tensor.first:,}, and the one before ends at {end:,}")
        end = tensor.last
    if end != num_bytes:
        raise ValueError(f"its tensors end at byte {end:,} of {num_bytes:,}")
    return tensors


def _tensor(name: str, entry: Any) -> StoredTensor:
    if not isinstance(entry, dict) or {"dtype", "shape", "data_offsets"} - entry.keys():
        raise ValueError(f"{name!r} lacks dtype, shape or data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [-1]
    if len(offsets) != 2 or any(not isinstance(number, int) or number < 0 for number in numbers):
        raise ValueError(f"{name!r} has a shape or offsets that are no counts")
    bits = _BITS.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if bits is not None and math.prod(shape) * bits != 8 * (offsets[1] - offsets[0]):
        raise ValueError(f"{name!r} takes {offsets[1] - offsets[0]:,} bytes, which its shape does not")
    return StoredTensor(name, str(entry["dtype"]), tuple(shape), offsets[0], offsets[1])
