"""Look at the header of a safetensors file before anything is loaded from it."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from finetune_exe.errors import FineTuneError

MOST_HEADER_BYTES = 100_000_000
"""Longest header the format allows. Source: safetensors, "Format", 2023."""
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


def check_header(path: Path) -> None:
    """Make sure that a safetensors file is what its header says, without reading more than that.

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
            _check_tensors(json.loads(file.read(length), object_pairs_hook=_once), size - 8 - length)
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
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} comes twice in its header")
    return found


def _check_tensors(header: Any, num_bytes: int) -> None:
    """Raise ValueError where the tensors do not fill the file one after the other."""
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    placed = []
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        if not isinstance(tensor, dict) or {"dtype", "shape", "data_offsets"} - tensor.keys():
            raise ValueError(f"{name!r} lacks dtype, shape or data_offsets")
        shape, offsets = tensor["shape"], tensor["data_offsets"]
        numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [-1]
        if len(offsets) != 2 or any(not isinstance(number, int) or number < 0 for number in numbers):
            raise ValueError(f"{name!r} has a shape or offsets that are no counts")
        bits = _BITS.get(tensor["dtype"])
        if bits is not None and math.prod(shape) * bits != 8 * (offsets[1] - offsets[0]):
            raise ValueError(f"{name!r} takes {offsets[1] - offsets[0]:,} bytes, which its shape does not")
        placed.append((offsets[0], offsets[1], name))
    end = 0
    for first, last, name in sorted(placed):
        if first != end:
            raise ValueError(f"{name!r} begins at byte {first:,}, and the one before ends at {end:,}")
        end = last
    if end != num_bytes:
        raise ValueError(f"its tensors end at byte {end:,} of {num_bytes:,}")
