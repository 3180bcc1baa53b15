"""Notebooks as the script that their cells make, with the place of each line in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from finetune_exe.domain.unreadable import unreadable
from finetune_exe.domain.yaml_tree import Item, Place
from finetune_exe.review.read_json import read_json

_MAGIC = re.compile(r"^(\s*)[%!?].*$")
_WHOLE_CELL = re.compile(r"^\s*%%(?!capture|time)\w+")


class Notebook(NamedTuple):
    """The code of a notebook."""

    text: str
    places: tuple[Place, ...]
    """Where each line of it stands in the file."""


def read_notebook(text: str, *, where: str) -> Notebook:
    """Put the code cells of a notebook together; lines for the notebook or the shell become empty statements.

    Raises:
        FineTuneError: C15 where it is no JSON or no notebook.
    """
    root, _ = read_json(text, where=where)
    cells = root.content.get("cells") if isinstance(root.content, Mapping) else None
    if cells is None or not isinstance(cells.content, tuple):
        raise unreadable("it is no notebook: it has no cells", where=where, place=root.place)
    lines: list[str] = []
    places: list[Place] = []
    for cell in cells.content:
        for line, place in _code(cell):
            lines.append(_MAGIC.sub(r"\1pass", line))
            places.append(place)
    return Notebook(text="\n".join(lines) + "\n", places=tuple(places))


def _code(cell: Item) -> Iterator[tuple[str, Place]]:
    group = cell.content
    if not isinstance(group, Mapping) or "source" not in group or group.get("cell_type", cell).content != "code":
        return
    source = group["source"]
    parts = source.content if isinstance(source.content, tuple) else (source,)
    written = [(line, part.place) for part in parts for line in str(part.content).splitlines()]
    if written and not _WHOLE_CELL.match(written[0][0]):
        yield from written
