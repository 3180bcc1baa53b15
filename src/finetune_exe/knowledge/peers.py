"""Training programs: the keys they take, what became of old ones, and what each calls the settings of our plan."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from finetune_exe.domain.review import Form
from finetune_exe.domain.values import Scalar

Types = str | tuple[str, ...]
"""Words such as "int|float", or the texts that are allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    """What became of a key."""

    to: str | None = None
    """The key that took its place; None where nothing did."""
    value: Scalar = None
    """What to give it instead; None where the old value stands."""
    since: str
    """The version that changed it."""
    note: str = ""
    stops: bool = False
    """Whether the version that was checked refuses to start with the old key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """The key that stands for a setting of our plan."""

    key: str
    default: Scalar = None
    """What the program takes where the key is absent; None where that depends on other things."""
    inverse: bool = False
    """Whether true means false in our plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A training program."""

    name: str
    title: str
    """With the version its keys were checked with."""
    form: Form
    unknown: str
    """What it does with a key that it does not know: "ignored", "refused", or refused by whom."""
    strict_numbers: bool
    """Whether a number between quotes stops it."""
    yaml_1_1: bool
    """Whether its reader takes 2e-4 for text."""
    signature: frozenset[str]
    """Keys by which its configuration is known from those of others."""
    weight: float
    """How much each of these counts."""
    open_with: frozenset[str]
    """Keys beside which others that are not known here may stand."""
    types: Mapping[str, Types]
    """Every key it takes, nested ones with dots, [] behind the name of a list."""
    old_prefix: Mapping[str, str]
    """What keys of a group may begin with besides, by the group."""
    deprecated: Mapping[str, str]
    renamed: Mapping[str, Renamed]
    meaning: Mapping[str, Meaning]
    """By the dotted path of our plan."""

    @property
    def groups(self) -> frozenset[str]:
        """Names below which every key is known."""
        return frozenset(key.rpartition(".")[0] for key in self.types if "." in key)


@cache
def peers() -> Mapping[str, Peer]:
    """Read the facts of all programs."""
    table = tomllib.loads(files("finetune_exe.knowledge").joinpath("peers.toml").read_text(encoding="utf-8"))
    return {name: _peer(name, entry) for name, entry in table.items()}


@cache
def _keys(name: str) -> Mapping[str, Any]:
    text = files("finetune_exe.knowledge").joinpath("peers", f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _peer(name: str, entry: Mapping[str, Any]) -> Peer:
    table = _keys(entry["keys"])
    version = entry.get("version", table["version"])
    types = {key: tuple(words) if isinstance(words, list) else words for key, words in table["keys"].items()}
    types |= dict.fromkeys(entry.get("extra", ()), "any")
    return Peer(
        name=name, title=f"{entry['title']} {version}", form=entry["form"], unknown=entry["unknown"],
        strict_numbers=entry.get("strict_numbers", False), yaml_1_1=entry.get("yaml_1_1", False),
        signature=frozenset(entry["signature"]), weight=entry.get("weight", 1.0), types=types,
        open_with=frozenset(entry.get("open_with", ())), deprecated=table.get("deprecated", {}),
        old_prefix=entry.get("old_prefix", {}),
        renamed={key: Renamed(**row) for key, row in entry["renamed"].items()},
        meaning={path: Meaning(key=row) if isinstance(row, str) else Meaning(**row)
                 for path, row in entry["meaning"].items()},
    )  # fmt: skip
