"""Rows of a dataset on the Hugging Face hub, through the `datasets` package where it is installed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import NamedTuple

from finetune_exe.data.raw import BadLine, RawRow
from finetune_exe.data.sources import HUB
from finetune_exe.errors import FineTuneError, missing_component
from finetune_exe.models.hub_faults import hub_faults


class _Address(NamedTuple):
    name: str
    configuration: str | None
    split: str


def hub_rows(name: str) -> Iterator[RawRow | BadLine]:
    """Stream the rows of hf://owner/name, hf://owner/name:split or hf://owner/name/configuration:split.

    Raises:
        FineTuneError: X01 where `datasets` is not installed; D01 where the dataset cannot be fetched.
    """
    address = _address(name)
    if find_spec("datasets") is None:
        raise missing_component("datasets", extra="hub", needed_for="reading a dataset of the hub")
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        for row in load_dataset(address.name, address.configuration, split=address.split, streaming=True):
            yield RawRow(row=dict(row), line=None)
    except hub_faults(DatasetsError, OSError, ValueError) as fault:  # most files are fetched while rows are read
        raise _not_fetched(name, fault) from fault


def hub_digest(name: str) -> str:
    """Name the revision of a dataset.

    Raises:
        FineTuneError: D01 where the hub does not answer.
    """
    from huggingface_hub import HfApi

    try:
        revision = HfApi().dataset_info(_address(name).name).sha
    except hub_faults(OSError, ValueError) as fault:
        raise _not_fetched(name, fault) from fault
    return hashlib.sha256(f"{name}@{revision}".encode()).hexdigest()


def _address(name: str) -> _Address:
    """Take an address apart."""
    path, _, split = name.removeprefix(HUB).removeprefix("datasets/").strip("/").partition(":")
    parts = path.split("/")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise FineTuneError(
            "D07",
            what="the address names no dataset of the hub",
            where=name,
            why="it should be hf://owner/name, with /configuration and :split where they are needed",
            fix="copy the name from the dataset's page, as in hf://tatsu-lab/alpaca",
        )
    return _Address("/".join(parts[:2]), parts[2] if len(parts) == 3 else None, split or "train")


def _not_fetched(name: str, fault: Exception) -> FineTuneError:
    return FineTuneError(
        "D01",
        what="the dataset of the hub cannot be read",
        where=name,
        why=f"the hub says: {str(fault).splitlines()[0] if str(fault) else type(fault).__name__}",
        fix="check the name, the configuration and the split (hf://owner/name/configuration:split), and the network",
    )
