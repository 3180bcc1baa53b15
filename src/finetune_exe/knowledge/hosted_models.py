"""Models that are trained at a service: prices and limits, with date and source."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache

from finetune_exe.knowledge.rows import read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedModel:
    """What the service asks and allows."""

    name: str
    usd_per_million_tokens: float
    """Of each token of the file, in each epoch."""
    longest_example_tokens: int
    encoding: str
    """Its tokenizer, as tiktoken calls it."""
    source: str
    date: date


@cache
def hosted_models() -> dict[str, HostedModel]:
    """Give them by name."""
    return {model.name: model for model in read_rows("hosted_models.toml", key="model", kind=HostedModel)}
