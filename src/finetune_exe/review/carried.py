"""What a configuration says in the words of our plan, and what stays behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from finetune_exe.domain.yaml_tree import Json


class Setting(NamedTuple):
    """A setting of our plan with where it comes from."""

    path: str
    value: Json
    key: str
    line: int | None
    """None for what the program takes where its file says nothing."""


class Left(NamedTuple):
    """Something that stays behind."""

    key: str
    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What a configuration says in the words of our plan."""

    settings: tuple[Setting, ...]
    left: tuple[Left, ...]
