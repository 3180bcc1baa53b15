"""What model there is, or is wished for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_exe.domain.plan import BaseModelChoice
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.parameters import count_parameters
from finetune_exe.knowledge.models import (
    EMBEDDED_MODEL,
    ModelFacts,
    find_model,
    known_model,
    models_called,
    refuse_of_service,
)
from finetune_exe.models.card import folder_license, gguf_license
from finetune_exe.models.gguf_header import read_gguf_header
from finetune_exe.planning.model_config import config_context, config_shape, fetch_config, read_config

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def is_family(reference: str) -> bool:
    """Say whether a name stands for several models, as "llama" and "Qwen2.5" do, and for no folder here."""
    return known_model(reference) is None and bool(models_called(reference)) and not Path(reference).exists()


def describe_model(reference: str) -> BaseModelChoice:
    """Say what is known of a base model, without loading it.

    Args:
        reference: "embedded", a folder with config.json, a GGUF file, a hub id, or a known model's name.

    Returns:
        The choice; its shape is None where no configuration was found or understood.

    Raises:
        FineTuneError: M01 for a path that does not exist or a name nobody knows; M03 for a folder whose config.json
            is missing or cannot be read.
    """
    if reference == "embedded":
        return _known(find_model(EMBEDDED_MODEL), reference="embedded")
    path = Path(reference).expanduser()
    if path.is_dir():
        return _folder(reference, path)
    if path.is_file():
        if path.suffix.lower() == ".gguf":
            header = read_gguf_header(path)
            if header is None:
                return _configured(reference, path.stem, None)
            return _configured(reference, path.stem, header.config(), license=gguf_license(header))
        raise _not_found(reference, "it is a file, but no GGUF file")
    if path.suffix.lower() == ".gguf" or reference.startswith((".", "/", "~")) or reference.count("/") > 1:
        raise _not_found(reference, "there is no such file or folder")
    if not _HUB_ID.fullmatch(reference):
        facts = find_model(reference)
        return _known(facts, reference=facts.reference)
    refuse_of_service(reference)
    try:
        facts = find_model(reference)
    except FineTuneError:
        return _configured(reference, reference.rpartition("/")[2], fetch_config(reference))
    return _known(facts, reference=reference)


def _known(facts: ModelFacts, *, reference: str) -> BaseModelChoice:
    return BaseModelChoice(
        reference=reference,
        name=reference.rpartition("/")[2] if "/" in reference else facts.name,
        shape=facts.shape,
        num_parameters=facts.num_parameters,
        context_length=facts.context_length,
        license=facts.license,
    )


def _folder(reference: str, path: Path) -> BaseModelChoice:
    try:
        config = read_config((path / "config.json").read_bytes())
    except FileNotFoundError as fault:
        raise _incomplete(path, "config.json is missing") from fault
    except (OSError, ValueError) as fault:
        raise _incomplete(path, f"config.json cannot be read: {fault}") from fault
    if config is None:
        raise _incomplete(path, "config.json holds no object")
    return _configured(reference, path.resolve().name, config, license=folder_license(path))


def _configured(
    reference: str, name: str, config: Mapping[str, Any] | None, *, license: str | None = None
) -> BaseModelChoice:
    """Describe a model by its configuration, as far as there is one and it can be read."""
    shape = config_shape(config) if config else None
    return BaseModelChoice(
        reference=reference,
        name=name,
        shape=shape,
        num_parameters=count_parameters(shape) if shape else None,
        context_length=config_context(config) if config else None,
        license=license,
    )


def _not_found(reference: str, what: str) -> FineTuneError:
    return FineTuneError(
        "M01",
        what=f"the model {reference!r} cannot be found: {what}",
        where=reference,
        why="without it nothing can be trained",
        fix='give a folder with config.json, a GGUF file, a hub id such as Qwen/Qwen2.5-0.5B-Instruct, or "embedded"',
    )


def _incomplete(path: Path, what: str) -> FineTuneError:
    return FineTuneError(
        "M03",
        what=what,
        where=str(path),
        why="it says what kind of model the weights belong to",
        fix="copy the whole model folder: config.json, the weights, and the tokenizer's files",
    )
