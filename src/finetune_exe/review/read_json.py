"""JSON with the place of every value."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from json.decoder import scanstring  # type: ignore[attr-defined]

from finetune_exe.domain.unreadable import unreadable
from finetune_exe.domain.yaml_of_programs import resolve
from finetune_exe.domain.yaml_tree import DEEPEST, MOST_ITEMS, Item, Place, Twice

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?\d{1,300}(\.\d+)?([eE][-+]?\d+)?")
_WORDS = {"true": True, "false": False, "null": None}


def read_json(text: str, *, where: str) -> tuple[Item, tuple[Twice, ...]]:
    """Read one document, and name the keys that are given twice.

    Raises:
        FineTuneError: C15 where it is no JSON, or nested or long beyond all bounds.
    """
    walker = _Walker(text=text, where=where, starts=[0, *(found.end() for found in re.finditer("\n", text))])
    try:
        json.loads(text)
        item = walker.value(walker.skip(0), None, 0)[0]
    except (json.JSONDecodeError, RecursionError) as fault:
        position = getattr(fault, "pos", 0)
        what = f"it is no JSON: {getattr(fault, 'msg', 'it is nested too deep')}"
        raise unreadable(what, where=where, place=walker.place(position)) from fault
    if item.size > MOST_ITEMS:
        raise unreadable(f"it holds more than {MOST_ITEMS:,} values", where=where, place=Place(1, 1))
    return item, tuple(walker.twice)


@dataclass(slots=True, kw_only=True)
class _Walker:
    """Walks text that is known to be JSON."""

    text: str
    where: str
    starts: list[int]
    twice: list[Twice] = field(default_factory=list)

    def place(self, position: int) -> Place:
        line = bisect_right(self.starts, position)
        return Place(line, position - self.starts[line - 1] + 1)

    def skip(self, position: int) -> int:
        found = _SPACE.match(self.text, position)
        return found.end() if found else position

    def value(self, at: int, key_place: Place | None, depth: int) -> tuple[Item, int]:
        place = self.place(at)
        if depth > DEEPEST:
            raise unreadable(f"groups are nested deeper than {DEEPEST}", where=self.where, place=place)
        if self.text[at] == "{":
            return self._group(at, key_place or place, depth)
        if self.text[at] == "[":
            return self._list(at, key_place or place, depth)
        if self.text[at] == '"':
            text, end = scanstring(self.text, at + 1, True)
            quoted = isinstance(resolve(text)[0], int | float)
            return Item(content=text, place=place, key_place=key_place or place, quoted=quoted), end
        number = _NUMBER.match(self.text, at)
        if number:
            value = json.loads(number[0])
            content = value if math.isfinite(value) else number[0]
            return Item(content=content, place=place, key_place=key_place or place), number.end()
        word = next((word for word in (*_WORDS, "NaN", "Infinity", "-Infinity") if self.text.startswith(word, at)), "")
        return Item(content=_WORDS.get(word, word), place=place, key_place=key_place or place), at + len(word)

    def _group(self, at: int, key_place: Place, depth: int) -> tuple[Item, int]:
        group: dict[str, Item] = {}
        place, at = self.place(at), self.skip(at + 1)
        while self.text[at] != "}":
            at = self.skip(at + 1) if self.text[at] == "," else at
            where = self.place(at)
            key, at = scanstring(self.text, at + 1, True)
            at = self.skip(self.skip(at) + 1)
            if key in group:
                self.twice.append(Twice(key=key, first=group[key].key_place, second=where))
            group[key], at = self.value(at, where, depth + 1)
            at = self.skip(at)
        size = 1 + sum(child.size for child in group.values())
        return Item(content=group, place=place, key_place=key_place, size=size), at + 1

    def _list(self, at: int, key_place: Place, depth: int) -> tuple[Item, int]:
        children: list[Item] = []
        place, at = self.place(at), self.skip(at + 1)
        while self.text[at] != "]":
            at = self.skip(at + 1) if self.text[at] == "," else at
            child, at = self.value(at, None, depth + 1)
            children.append(child)
            at = self.skip(at)
        size = 1 + sum(child.size for child in children)
        return Item(content=tuple(children), place=place, key_place=key_place, size=size), at + 1
