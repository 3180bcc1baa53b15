"""YAML as training programs write it: version 1.1's words, anchors and merges, each value with its place."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from finetune_exe.domain.values import Scalar
from finetune_exe.domain.yaml_text import Place
from finetune_exe.review.fault import unreadable
from finetune_exe.review.tree import DEEPEST, MOST_ITEMS, Item

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **{word: True for base in ("true", "yes", "on") for word in (base, base.title(), base.upper())},
    **{word: False for base in ("false", "no", "off") for word in (base, base.title(), base.upper())},
}
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]{0,300})")
_NUMBER = re.compile(r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?")
_NUMBER_1_1 = re.compile(r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+][0-9]+)?")
"""Source: YAML 1.1, float type: a point, and a sign in the exponent, are not optional. PyYAML 6 keeps to it."""
_COMPUTED = re.compile(r"\$\{.*\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Twice:
    """A key that is given a second time."""

    key: str
    first: Place
    second: Place


def read_yaml(text: str, *, where: str) -> tuple[Item, tuple[Twice, ...]]:
    """Read the first document of a text, and name the keys that are given twice.

    Raises:
        FineTuneError: C15 where it is no YAML, refers to itself, or would grow beyond all bounds.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    builder = _Builder(where=where, events=iter(YAML(typ="safe", pure=True).parse(text)))
    try:
        return builder.document(), tuple(builder.twice)
    except MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
        what = fault.problem or fault.context or "it is no YAML"
        what = "a tab stands where YAML wants spaces" if "'\\t'" in what else what
        raise unreadable(f"it is no YAML: {what}", where=where, place=place) from fault
    except (ReaderError, YAMLError) as fault:
        raise unreadable(
            f"it is no YAML: {' '.join(str(fault).split())[:200]}", where=where, place=Place(1, 1)
        ) from fault


def resolve(text: str) -> tuple[Scalar, bool]:
    """Give an unquoted scalar its value, and say whether YAML 1.1 takes this number for text."""
    if text in _WORDS:
        return _WORDS[text], False
    if _INT.fullmatch(text):
        return int(text.replace("_", "")), False
    number = float(text.replace("_", "")) if _NUMBER.fullmatch(text) else math.inf
    if math.isfinite(number):
        return number, not _NUMBER_1_1.fullmatch(text)
    return text, False


@dataclass(slots=True)
class _Builder:
    where: str
    events: Iterator[object]
    anchors: dict[str, Item] = field(default_factory=dict)
    twice: list[Twice] = field(default_factory=list)
    num_items: int = 0

    def document(self) -> Item:
        from ruamel.yaml.events import DocumentStartEvent, StreamEndEvent, StreamStartEvent

        event = next(self.events)
        while isinstance(event, StreamStartEvent | DocumentStartEvent):
            event = next(self.events)
        if isinstance(event, StreamEndEvent):
            raise unreadable("the file holds nothing but comments", where=self.where, place=Place(1, 1))
        root = self._item(event, key_place=None, depth=0)
        next(self.events)
        after = next(self.events)
        if not isinstance(after, StreamEndEvent):
            raise unreadable("a second document begins; a configuration is one", where=self.where, place=_place(after))
        return root

    def _item(self, event: object, *, key_place: Place | None, depth: int) -> Item:
        from ruamel.yaml.events import AliasEvent, MappingStartEvent, NodeEvent, ScalarEvent, SequenceStartEvent

        assert isinstance(event, NodeEvent)
        place = _place(event)
        if depth > DEEPEST:
            raise unreadable(f"groups are nested deeper than {DEEPEST}", where=self.where, place=place)
        self.num_items += 1
        if self.num_items > 2 * MOST_ITEMS:  # keys count too
            raise unreadable(f"it holds more than {MOST_ITEMS:,} values", where=self.where, place=place)
        if isinstance(event, AliasEvent):
            known = self.anchors.get(str(event.anchor))
            if known is None:
                what = f"*{event.anchor} refers to what is not there, or to itself"
                raise unreadable(what, where=self.where, place=place)
            return replace(known, key_place=key_place or place)
        match event:
            case ScalarEvent():
                item = _scalar(event, place=place, key_place=key_place or place)
            case SequenceStartEvent():
                children = tuple(self._children(depth))
                size = 1 + sum(child.size for child in children)
                item = Item(content=children, place=place, key_place=key_place or place, size=size)
            case MappingStartEvent():
                group = self._group(depth)
                size = 1 + sum(child.size for child in group.values())
                item = Item(content=group, place=place, key_place=key_place or place, size=size)
            case _:
                raise AssertionError(event)
        if item.size > MOST_ITEMS:
            what = f"written out, it holds more than {MOST_ITEMS:,} values"
            raise unreadable(what, where=self.where, place=place)
        if event.anchor is not None:
            self.anchors[str(event.anchor)] = item
        return item

    def _children(self, depth: int) -> Iterator[Item]:
        from ruamel.yaml.events import SequenceEndEvent

        while not isinstance(event := next(self.events), SequenceEndEvent):
            yield self._item(event, key_place=None, depth=depth + 1)

    def _group(self, depth: int) -> dict[str, Item]:
        from ruamel.yaml.events import MappingEndEvent

        group: dict[str, Item] = {}
        merged: dict[str, Item] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            key = self._item(event, key_place=None, depth=depth + 1)
            value = self._item(next(self.events), key_place=key.place, depth=depth + 1)
            if isinstance(key.content, tuple | dict):
                continue  # no program has a group for a name
            name = str(key.content)
            if name == "<<":
                sources = value.content if isinstance(value.content, tuple) else (value,)
                for source in sources:
                    if isinstance(source.content, dict):
                        merged = {**source.content, **merged}
                continue
            if name in group:
                self.twice.append(Twice(key=name, first=group[name].key_place, second=key.place))
            group[name] = value
        return {**merged, **group}


def _scalar(event: object, *, place: Place, key_place: Place) -> Item:
    from ruamel.yaml.events import ScalarEvent

    assert isinstance(event, ScalarEvent)
    bare = event.implicit[0]
    value, text_in_yaml = resolve(event.value) if bare else (event.value, False)
    meant = resolve(event.value)[0] if not bare and event.style in ("'", '"') else None
    return Item(
        content=value, place=place, key_place=key_place, text_in_yaml=text_in_yaml,
        quoted=isinstance(meant, int | float),
        computed=isinstance(value, str) and bool(_COMPUTED.search(value)),
    )  # fmt: skip


def _place(event: object) -> Place:
    from ruamel.yaml.events import Event

    assert isinstance(event, Event)
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)
