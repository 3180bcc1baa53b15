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
