"""Of rows that no format fits, say which comes nearest and what it misses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import NamedTuple

from finetune_exe.text.conversation import RowFault
from finetune_exe.text.formats import FORMATS
from finetune_exe.text.formats.format import Format, Row

_WITHIN = re.compile(r": (?:\[.*\]|\{.*\}|[^,;(]*)")
"""What a column holds, behind its name."""
SPELT_NEARLY = 0.8
"""How alike two names must be, 2 x common letters / all: `instruct` is to `instruction` (0.84), `function` is not to
`question` (0.62)."""


class Nearest(NamedTuple):
    """The format that most of the columns belong to, and what is wrong with a row of it."""

    format: Format
    missing: str


def nearest_format(row: Row) -> Nearest | None:
    """Find the format most of whose columns a row has, under its names or such as are spelt nearly so."""
    if not isinstance(row, dict):
        return None
    keys = [key.casefold() for key in row]
    found = [(max(_share(names, keys) for names in _alternatives(entry.needs)), entry) for entry in FORMATS]
    best, entry = max(found, key=lambda pair: pair[0])
    fault = entry.read(row) if best else None
    return Nearest(entry, fault.message.partition(";")[0]) if isinstance(fault, RowFault) else None


def _alternatives(needs: str) -> Iterator[list[str]]:
    """Give the names of the columns that a format needs, and of those that may stand in their place."""
    main, _, others = _WITHIN.sub("", needs).partition("(")
    for names in (main, *(other for other in others.rstrip(")").split(";") if other.strip().startswith("or "))):
        yield re.findall(r"\w+", names.replace(" or ", " ").removeprefix("or "))


def _share(names: list[str], keys: list[str]) -> float:
    """Give the share of names that are among some keys; one that is spelt nearly so counts half."""
    found = (
        1.0 if name in keys else 0.5 if get_close_matches(name, keys, n=1, cutoff=SPELT_NEARLY) else 0.0
        for name in names
    )
    return sum(found) / len(names)
