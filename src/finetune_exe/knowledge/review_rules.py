"""What settings of training programs do together, as a table of rules."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from finetune_exe.domain.review import Severity
from finetune_exe.domain.values import Scalar

Condition = Scalar | list[Scalar]
TRAINERS = {"llamafactory": "", "ms-swift": "", "trl": "", "transformers": "", "script": "args.", "unsloth": "args."}
"""Programs on transformers' Trainer, and what stands before its arguments in their settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Settings that do something together."""

    code: str
    severity: Severity = "error"
    prefixes: Mapping[str, str]
    """The programs, and what stands before the settings' names."""
    when: Mapping[str, Condition]
    """All must hold."""
    skip: Mapping[str, Condition] = field(default_factory=dict)
    """None may hold."""
    at: str | None = None
    """Where to point; None for the first setting of `when` that is there."""
    each: str | None = None
    """A setting of a list, each of which is looked at by itself."""
    what: str
    why: str
    set: Mapping[str, Scalar] = field(default_factory=dict)
    """What to write; empty where `fix` says it."""
    fix: str = ""
    source: str


@cache
def review_rules() -> tuple[Rule, ...]:
    """Read the table."""
    text = files("finetune_exe.knowledge").joinpath("review_rules.toml").read_text(encoding="utf-8")
    return tuple(_rule(row) for row in tomllib.loads(text)["rule"])


def _rule(row: Mapping[str, Any]) -> Rule:
    prefixes: dict[str, str] = {}
    for tool in row["tools"]:
        prefixes |= TRAINERS if tool == "trainer" else {tool: row.get("prefix", {}).get(tool, "")}
    if "prefix" not in row and "trainer" not in row["tools"] and len(row["tools"]) > 1:
        prefixes = {tool: TRAINERS.get(tool, "") for tool in prefixes}
    return Rule(prefixes=prefixes, **{name: said for name, said in row.items() if name not in ("tools", "prefix")})
