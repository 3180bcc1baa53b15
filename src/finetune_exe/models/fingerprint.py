"""Name the content of a base model: surely enough to notice another one, and in a second at any size.

Weights are named by the headers of their files and by samples of every tensor, since training changes a tensor all
over: whichever tensors were changed, samples of them are others. What cannot change the model, what it is asked
or where its answers end, such as the version of the library that wrote the configuration, is left out.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from finetune_exe.models.headers import stored_tensors

_WHOLE_BELOW = 1 << 22
"""Files of weights smaller than this are read whole."""
_SAMPLES, _SAMPLE_BYTES = 4, 1 << 12
"""Of each tensor of the larger ones; a tensor no larger than all its samples is read whole."""
_EARLIER_SAMPLES, _EARLIER_SAMPLE_BYTES = 64, 1 << 16
_TOKEN_FILES = ("tokenizer_config.json", "special_tokens_map.json")
_TOKEN_SETTINGS = (
    "bos_token", "eos_token", "pad_token", "unk_token", "add_bos_token", "add_eos_token", "add_prefix_space",
    "chat_template",
)  # fmt: skip
"""What the settings of a tokenizer say beside its file of tokens: which begin and end texts, and how turns are put."""


def fingerprint(base: Path) -> str:
    """Name the content of a base model: configuration, tokens, how turns are put, when answers end, weights."""
    return _fingerprint(base, with_settings=True)


def is_base(base: Path, recorded: str) -> bool:
    """Ask whether a base model is the one on record, in the form of now or in those of earlier checkpoints."""
    return recorded in (fingerprint(base), _fingerprint(base, with_settings=False), _earlier_fingerprint(base))


def _fingerprint(base: Path, *, with_settings: bool) -> str:
    """Name the content; without the settings of tokenizer and generation, as checkpoints did for a while."""
    digest = hashlib.sha256(_configuration(base / "config.json"))
    tokens = base / "tokenizer.json"
    if tokens.is_file():
        digest.update(tokens.read_bytes())
    if with_settings:
        digest.update(_settings(base))
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


def _settings(base: Path) -> bytes:
    """Give what settings of tokenizer and generation say, and the template of turns."""
    said = {
        **dict.fromkeys(_TOKEN_FILES, _chosen),
        "generation_config.json": _configuration,
        "chat_template.jinja": Path.read_bytes,
    }
    there = {name: reading(base / name) for name, reading in said.items() if (base / name).is_file()}
    return b"settings;" + b"".join(f"{name}:{len(content)};".encode() + content for name, content in there.items())


def _chosen(file: Path) -> bytes:
    """Give the settings of a tokenizer that count, tokens as their texts; one that cannot be read as it is."""
    content = file.read_bytes()
    settings = _object(content)
    if settings is None:
        return content
    said = {name: value.get("content") if isinstance(value, dict) else value
            for name in _TOKEN_SETTINGS if (value := settings.get(name)) is not None}  # fmt: skip
    return json.dumps(said, sort_keys=True).encode()


def _configuration(file: Path) -> bytes:
    """Give the settings of a configuration in an order of their own; one that cannot be read as it is."""
    content = file.read_bytes()
    settings = _object(content)
    if settings is None:
        return content
    settings.pop("transformers_version", None)
    return json.dumps(settings, sort_keys=True).encode()


def _object(content: bytes) -> dict[str, Any] | None:
    """Read an object of JSON; None where it is none."""
    try:
        settings = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return settings if isinstance(settings, dict) else None


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
