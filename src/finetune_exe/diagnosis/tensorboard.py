"""Read the scalars of TensorBoard event files: records with a length, holding protocol buffers.

Source: TFRecord framing and `event.proto`, `summary.proto`, `tensor.proto` of TensorFlow: an Event has its step in
field 2 and its summary in field 5; a summary's values (1) have a tag (1) and a simple_value (2) or a tensor (8) with
float_val (5), double_val (6) or tensor_content (4).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune_exe.diagnosis.series import Point, Series

_LONGEST = 1 << 20
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TAGS = {
    "train/loss": "train_loss", "loss": "train_loss", "train_loss": "train_loss", "eval/loss": "eval_loss",
    "eval_loss": "eval_loss", "val_loss": "eval_loss", "validation/loss": "eval_loss", "val/loss": "eval_loss",
    "train/grad_norm": "grad_norm", "grad_norm": "grad_norm", "train/learning_rate": "learning_rate",
    "learning_rate": "learning_rate", "lr": "learning_rate", "train/lr": "learning_rate", "train/epoch": "epoch",
    "epoch": "epoch", "tokens_per_second_per_gpu": "throughput", "peak_memory_active": "memory",
}  # fmt: skip


def read_event_file(path: Path) -> Series:
    """Read the losses of a TensorBoard file; a torn last record, as a killed run leaves it, is passed over."""
    steps: dict[int, dict[str, Any]] = {}
    for record in _records(path):
        step, values = _event(record)
        for tag, value in values:
            name = _TAGS.get(tag.lower())
            if name:
                steps.setdefault(step, {})[name] = value
    points = [Point(step=step, **steps[step]) for step in sorted(steps)]
    return Series(points=[p for p in points if p.train_loss is not None or p.eval_loss is not None])


def _records(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while len(head := file.read(12)) == 12:
            (length,) = struct.unpack("<Q", head[:8])
            if length > _LONGEST:
                return
            record = file.read(length)
            if len(record) < length or len(file.read(4)) < 4:
                return
            yield record


def _event(record: bytes) -> tuple[int, list[tuple[str, float]]]:
    step, values = 0, []
    for number, content in _fields(record):
        if number == 2 and isinstance(content, int):
            step = content
        elif number == 5 and isinstance(content, bytes):
            values += [pair for n, inner in _fields(content) if n == 1 and isinstance(inner, bytes)
                       for pair in _scalar(inner)]  # fmt: skip
    return step, values


def _scalar(value: bytes) -> Iterator[tuple[str, float]]:
    tag, number = "", None
    for field, content in _fields(value):
        if not isinstance(content, bytes):
            continue
        if field == 1:
            tag = content.decode("utf-8", "replace")
        elif field == 2 and len(content) == 4:
            (number,) = struct.unpack("<f", content)
        elif field == 8:
            number = _tensor(content)
    if number is not None:
        yield tag, number


def _tensor(content: bytes) -> float | None:
    for field, inner in _fields(content):
        if not isinstance(inner, bytes):
            continue
        if field in (4, 5) and len(inner) == 4:
            return float(struct.unpack("<f", inner)[0])
        if field in (4, 6) and len(inner) == 8:
            return float(struct.unpack("<d", inner)[0])
    return None


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and content of each field; where the message is damaged it ends."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind, number = key & 7, key >> 3
        if kind == _VARINT:
            content, place = _varint(message, place)
            yield number, content
            continue
        if kind == _BYTES:
            size, place = _varint(message, place)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            return
        if place + size > len(message):
            return
        yield number, message[place : place + size]
        place += size


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while place < len(message) and shift < 64:
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
    return value, place
