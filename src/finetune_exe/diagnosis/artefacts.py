"""What a training left behind: adapter files and generated answers, looked at without loading a model."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from finetune_exe.diagnosis.match import Hit, repeated_part
from finetune_exe.domain.events import Sampled
from finetune_exe.errors import FineTuneError
from finetune_exe.models.headers import stored_tensors

ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
_SMALL_BYTES = 20_000
_SAMPLE_BYTES = 1 << 22
_MOST_LOOKED_AT = 1000
_MOST_ROWS = 5000
_FEWEST_ANSWERS = 3
_ANSWERS = ("prediction", "pred", "generated", "generated_text", "output", "completion", "response", "answer", "tuned")
_ENDS = (".", "!", "?", "}", '"', "`")
_BASE = ("base", "base_output", "base_answer", "before")


def look_at_adapter(path: Path) -> Iterator[Hit]:
    """Look at the size of an adapter's file and, in safetensors, at the values of the factors that start at zero."""
    size = path.stat().st_size
    if size < _SMALL_BYTES:
        text = f"{path.name} has only {size:,} bytes: no weights are in it"
        yield Hit(label="adapter_not_applied", strength=0.82, text=text)
    if path.suffix != ".safetensors":
        return
    try:
        tensors = stored_tensors(path)
    except FineTuneError as fault:
        yield Hit(label="adapter_load_mismatch", strength=0.8, text=f"{path.name} is damaged or cut off: {fault.why}")
        return
    empty = [tensor.name for tensor in tensors if 0 in tensor.shape]
    if empty:
        text = f"{len(empty)} tensors of {path.name} have a dimension of 0: {empty[0]}"
        yield Hit(label="adapter_load_mismatch", strength=0.85, text=text)
    second = [tensor for tensor in tensors if "lora_B" in tensor.name][:_MOST_LOOKED_AT]
    zero, bad = 0, list[str]()
    with path.open("rb") as file:
        for tensor in second:
            file.seek(tensor.first)
            content = file.read(min(_SAMPLE_BYTES, tensor.last - tensor.first))
            zero += not content.strip(b"\0")
            bad += [tensor.name] if _has_nan(content, tensor.dtype) else []
    if second and zero == len(second):
        text = f"all {len(second)} lora_B tensors of {path.name} are zero, as before the first step"
        yield Hit(label="adapter_not_applied", strength=0.88, text=text)
    if bad:
        text = f"{len(bad)} of {len(second)} lora_B tensors of {path.name} hold NaN, first {bad[0]}"
        yield Hit(label="nan_loss", strength=0.9, text=text)


def look_at_answers(path: Path) -> Iterator[Hit]:
    """Look at generated answers, one JSON object a line, for loops, sameness, missing ends and likeness to the base."""
    rows = list(_rows(path))
    answers = [text for row in rows if (text := _text(row, _ANSWERS)) is not None]
    if len(answers) < _FEWEST_ANSWERS:
        return
    total = len(answers)
    loops = [part for text in answers if (part := repeated_part(text))]
    if len(loops) >= 0.2 * total:
        text = f"{len(loops)} of {total} answers repeat themselves, one with: {loops[0]}"
        yield Hit(label="repetition", strength=min(0.95, 0.7 + len(loops) / total / 3), text=text)
    common, count = Counter(text.strip() for text in answers).most_common(1)[0]
    if count >= 0.5 * total and len({str(row.get("prompt", i)) for i, row in enumerate(rows)}) > 2:
        yield Hit(label="repetition", strength=0.85, text=f"{count} of {total} answers are the same: {common[:80]}")
    longest = max(map(len, answers))
    cut = [text for text in answers if len(text) > 0.97 * longest and not text.rstrip().endswith(_ENDS)]
    if total >= 5 and len(cut) >= 0.7 * total and longest > 200:
        text = f"{len(cut)} of {total} answers run to the same length and break off"
        yield Hit(label="eos_not_learned", strength=0.75, text=text)
    pairs = [(mine, base) for row in rows if (mine := _text(row, _ANSWERS)) and (base := _text(row, _BASE))]
    same = sum(mine.strip() == base.strip() for mine, base in pairs)
    if len(pairs) >= 3 and same >= 0.9 * len(pairs):
        text = f"{same} of {len(pairs)} answers are those of the base model"
        yield Hit(label="adapter_not_applied", strength=0.85, text=text)


def look_at_samples(looks: Sequence[Sampled]) -> Iterator[Hit]:
    """Hold the rows answered while a run trained against the answers before it: loops, and one answer to everything.

    It has to be so at the last two looks: one answer that goes astray is no collapse.
    """
    if len(looks) < 3 or looks[0].step:
        return
    first, recent = looks[0].samples, looks[-2:]
    sound = {sample.prompt for sample in first if not repeated_part(sample.answer)}
    loops = [
        [sample for sample in look.samples if sample.prompt in sound and repeated_part(sample.answer)]
        for look in recent
    ]  # fmt: skip
    if all(2 * len(found) >= max(2, len(look.samples)) for found, look in zip(loops, recent, strict=True)):
        part = repeated_part(loops[-1][0].answer)
        text = f"{len(loops[-1])} of {len(recent[-1].samples)} answers repeat themselves since training began: {part}"
        yield Hit(label="repetition", strength=0.75, text=text)
    if all(map(_is_one_answer, recent)) and not _is_one_answer(looks[0]):
        count, answer = len(recent[-1].samples), recent[-1].samples[0].answer
        text = f"all {count} answers to different rows are the same: {answer[:80]}"
        yield Hit(label="repetition", strength=0.7, text=text)


def _is_one_answer(look: Sampled) -> bool:
    """Say whether rows with different answers got one and the same."""
    answers = {sample.answer.strip() for sample in look.samples}
    wanted = {sample.reference.strip() for sample in look.samples}
    return len(look.samples) >= _FEWEST_ANSWERS and len(answers) == 1 and len(wanted) == len(look.samples)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file):
            if number >= _MOST_ROWS:
                return
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield row


def _text(row: dict[str, Any], names: Sequence[str]) -> str | None:
    return next((row[name] for name in names if isinstance(row.get(name), str)), None)


def _has_nan(content: bytes, kind: str) -> bool:
    """Say whether a number with all bits of its exponent set, and some of its fraction, is among the values."""
    if kind == "F32":
        return any(value != value for (value,) in struct.iter_unpack("<f", content[: len(content) // 4 * 4]))
    exponent, fraction = {"BF16": (0x7F80, 0x7F), "F16": (0x7C00, 0x3FF)}.get(kind, (0, 0))
    halves = struct.iter_unpack("<H", content[: len(content) // 2 * 2])
    return bool(exponent) and any(v & exponent == exponent and v & fraction for (v,) in halves)
