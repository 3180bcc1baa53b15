"""What the licences of open models ask for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache

from finetune_exe.knowledge.rows import read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseFacts:
    """One licence, in short; it is no legal advice."""

    name: str
    permissive: bool
    """Whether it puts no conditions on use, and on passing on only that its text comes along."""
    commercial: bool
    """Whether it allows commercial use."""
    says: str
    """The conditions that matter for a fine-tuned model."""
    source: str
    date: date
    hub: str = "other"
    """What the Hugging Face hub calls it."""


@cache
def _licenses() -> dict[str, LicenseFacts]:
    return {facts.name: facts for facts in read_rows("licenses.toml", key="license", kind=LicenseFacts)}


def license_facts(name: str) -> LicenseFacts:
    """Give the facts of a licence that `models.toml` names."""
    return _licenses()[name]


def known_license(name: str | None) -> LicenseFacts | None:
    """Give the facts of a licence by the name it has here; None where it is not known, or none is named."""
    return None if name is None else _licenses().get(name)


def license_called(text: str) -> str:
    """Give the name that a licence has here, from what the hub or somebody else calls it; a text nobody knows as it is.

    >>> license_called("apache-2.0"), license_called("qwen-research"), license_called("my own")
    ('Apache-2.0', 'Qwen Research', 'my own')
    """
    wanted = text.strip().casefold().replace(" ", "-")
    for facts in _licenses().values():
        if wanted in (facts.hub, facts.name.casefold().replace(" ", "-")):
            return facts.name
    return text.strip()
