"""Name the content of a base model: surely enough to notice another one, and in a second at any size.

Weights are named by the headers of their files and by samples of every tensor, since training changes a tensor all
over: whichever tensors were changed, samples of them are others. What cannot change the model, such as the version of
the library that wrote the configuration, is left out.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from finetune_exe.models.headers import stored_tensors

_WHOLE_BELOW = 1 << 22
"""Files of weights smaller than this are read whole."""
_SAMPLES, _SAMPLE_BYTES = 4, 1 << 12
"""Of each tensor of the larger ones; a tensor no larger than all its samples is read whole."""
_EARLIER_SAMPLES, _EARLIER_SAMPLE_BYTES = 64, 1 << 16


def fingerprint(base: Path) -> str:
    """Name the content of a base model: its configuration, its tokens and its weights."""
    digest = hashlib.sha256(_configuration(base / "config.json"))
    tokens = base / "tokenizer.json"
    if tokens.is_file():
        digest.update(tokens.read_bytes())
    for file in sorted(base.glob("*.safetensors")):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size};".encode())
        if size < _WHOLE_BELOW:
            digest.update(file.read_bytes())
            continue
        tensors = stored_tensors(file)
        with file.open("rb") as opened:
            digest.update(opened.read(tensors[0].first))
            for tensor in tensors:
                for first, num_bytes in _sampled(tensor.first, tensor.last):
                    opened.seek(first)
                    digest.update(opened.read(num_bytes))
    return digest.hexdigest()[:32]


def is_base(base: Path, recorded: str) -> bool:
    """Ask whether a base model is the one on record, in the form of now or in that of earlier checkpoints."""
    return recorded in (fingerprint(base), _earlier_fingerprint(base))


def _configuration(file: Path) -> bytes:
    """Give the settings of a configuration in an order of their own; one that cannot be read as it is."""
    content = file.read_bytes()
    try:
        settings = json.loads(content)
    except (ValueError, RecursionError):
        return content
    if not isinstance(settings, dict):
        return content
    settings.pop("transformers_version", None)
    return json.dumps(settings, sort_keys=True).encode()


def _sampled(first: int, last: int) -> list[tuple[int, int]]:
    """Place the samples of a tensor: where each begins, and its bytes."""
    if last - first <= _SAMPLES * _SAMPLE_BYTES:
        return [(first, last - first)]
    room = last - first - _SAMPLE_BYTES
    return [(first + number * room // (_SAMPLES - 1), _SAMPLE_BYTES) for number in range(_SAMPLES)]


def _earlier_fingerprint(base: Path) -> str:
    """Name the content as checkpoints did that may still be gone on with: small files whole, samples of large ones."""
    digest = hashlib.sha256()
    for file in sorted([*base.glob("*.json"), *base.glob("*.safetensors")]):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size};".encode())
        with file.open("rb") as opened:
            if size < _WHOLE_BELOW:
                digest.update(opened.read())
                continue
            for number in range(_EARLIER_SAMPLES):
                opened.seek(number * (size - _EARLIER_SAMPLE_BYTES) // (_EARLIER_SAMPLES - 1))
                digest.update(opened.read(_EARLIER_SAMPLE_BYTES))
    return digest.hexdigest()[:32]
