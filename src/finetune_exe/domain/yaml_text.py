"""The part of YAML 1.2 that plans are written in: groups, lists and scalars, each with its place in the text.

Left out on purpose: anchors, aliases, tags, directives, several documents, keys that are no text, keys given twice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from finetune_exe.errors import FineTuneError

Scalar: TypeAlias = str | int | float | bool | None
Json: TypeAlias = Scalar | list["Json"] | dict[str, "Json"]

_DEEPEST = 20
_INT = re.compile(r"[-+]?[0-9]{1,300}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_PLAIN = re.compile(r"[A-Za-z_/]([A-Za-z0-9_/.+() -]*[A-Za-z0-9_/.+()])?")
_RESERVED = re.compile(r"y|n|yes|no|on|off|true|false|null|_+", re.IGNORECASE)
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class Place(NamedTuple):
    """A line and a column, both counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A value of the text."""

    content: Scalar | list[Node] | dict[str, Node]
    place: Place
    key_place: Place
    """Where its key stands; its own place where it has none."""

    def plain(self) -> Json:
        """Give the value without places."""
        match self.content:
            case dict() as group:
                return {key: node.plain() for key, node in group.items()}
            case list() as items:
                return [node.plain() for node in items]
            case scalar:
                return scalar


def parse_yaml(text: str, *, where: str) -> Node:
    """Read one document.

    Raises:
        FineTuneError: C01 with where:line:column, where the text is no YAML or uses what is left out here.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return _Builder(where=where, events=iter(YAML(typ="safe", pure=True).parse(text))).document()
    except MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
        what = fault.problem or fault.context or "it cannot be read"
        what = "a tab stands where YAML wants spaces" if "'\\t'" in what else what
        raise _refused(what, where=where, place=place) from fault
    except YAMLError as fault:
        raise _refused(" ".join(str(fault).split()), where=where, place=Place(1, 1)) from fault


def write_yaml(content: Mapping[str, Json], *, comments: Mapping[str, str]) -> str:
    """Write groups so that YAML 1.1 and 1.2 readers read the same.

    Args:
        content: The groups, written in their order.
        comments: What stands behind a value, by its dotted path.
    """
    lines: list[str] = []
    for key, value in content.items():
        entry = _entry(key, value, path=key, indent="", comments=comments)
        if lines and (len(entry) > 1 or lines[-1].startswith(" ")):
            lines.append("")
        lines += entry
    return "\n".join(lines) + "\n"


@dataclass(slots=True)
class _Builder:
    """Builds nodes from parser events."""

    where: str
    events: Iterator[object]

    def document(self) -> Node:
        from ruamel.yaml.events import DocumentStartEvent, StreamEndEvent, StreamStartEvent

        event = next(self.events)
        while isinstance(event, StreamStartEvent | DocumentStartEvent):
            if isinstance(event, DocumentStartEvent) and (event.version or event.tags):
                raise self._refused("a plan has no % directive", event)
            event = next(self.events)
        if isinstance(event, StreamEndEvent):
            raise self._refused("the text is empty", event)
        root = self._node(event, key_place=None, depth=0)
        next(self.events)
        after = next(self.events)
        if not isinstance(after, StreamEndEvent):
            raise self._refused("a second document begins; a plan is one", after)
        return root

    def _node(self, event: object, *, key_place: Place | None, depth: int) -> Node:
        from ruamel.yaml.events import AliasEvent, MappingStartEvent, NodeEvent, ScalarEvent, SequenceStartEvent

        assert isinstance(event, NodeEvent)
        place = _place(event)
        if isinstance(event, AliasEvent) or event.anchor is not None:
            raise self._refused("anchors (&) and aliases (*) are not used in plans; write the value out", event)
        if depth > _DEEPEST:
            raise self._refused(f"groups are nested deeper than {_DEEPEST}", event)
        content: Scalar | list[Node] | dict[str, Node]
        match event:
            case ScalarEvent():
                if event.tag is not None:
                    raise self._refused("tags (!) are not used in plans", event)
                content = _resolve(event.value) if event.implicit[0] else event.value
            case SequenceStartEvent():
                content = list(self._items(event, depth=depth))
            case MappingStartEvent():
                content = self._group(event, depth=depth)
            case _:
                raise AssertionError(event)
        return Node(content=content, place=place, key_place=key_place or place)

    def _items(self, start: object, *, depth: int) -> Iterator[Node]:
        from ruamel.yaml.events import SequenceEndEvent

        self._refuse_tag(start)
        while not isinstance(event := next(self.events), SequenceEndEvent):
            yield self._node(event, key_place=None, depth=depth + 1)

    def _group(self, start: object, *, depth: int) -> dict[str, Node]:
        from ruamel.yaml.events import MappingEndEvent

        self._refuse_tag(start)
        group: dict[str, Node] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            key = self._node(event, key_place=None, depth=depth + 1)
            if not isinstance(key.content, str):
                raise self._refused("a key must be text; put it in quotes", event)
            if key.content in group:
                first = group[key.content].key_place.line
                raise self._refused(f"the key {key.content!r} was given before, in line {first}", event)
            group[key.content] = self._node(next(self.events), key_place=key.place, depth=depth + 1)
        return group

    def _refuse_tag(self, event: object) -> None:
        from ruamel.yaml.events import CollectionStartEvent

        assert isinstance(event, CollectionStartEvent)
        if event.tag is not None:
            raise self._refused("tags (!) are not used in plans", event)

    def _refused(self, what: str, event: object) -> FineTuneError:
        return _refused(what, where=self.where, place=_place(event))


def _refused(what: str, *, where: str, place: Place) -> FineTuneError:
    return FineTuneError(
        "C01",
        what=what,
        where=f"{where}:{place.line}:{place.column}",
        why="a plan is plain YAML 1.2: groups, lists, numbers and text, each key once, indented with spaces",
        fix="correct that line",
    )


def _place(event: object) -> Place:
    from ruamel.yaml.events import Event

    assert isinstance(event, Event)
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def _resolve(text: str) -> Scalar:
    """Give an unquoted scalar its type after YAML 1.2's core schema; infinities and not-a-number stay text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    number = float(text) if _FLOAT.fullmatch(text) else math.inf
    return number if math.isfinite(number) else text


def _entry(key: str, value: Json, *, path: str, indent: str, comments: Mapping[str, str]) -> list[str]:
    """Write one key and its value."""
    comment = f"  # {comments[path]}" if path in comments else ""
    name = indent + _text(key)
    if _fits_in_line(value, path=path, comments=comments):
        return [f"{name}: {_flow(value)}{comment}"]
    if isinstance(value, dict):
        lines = [f"{name}:{comment}"]
        for inner, item in value.items():
            lines += _entry(inner, item, path=f"{path}.{inner}", indent=indent + "  ", comments=comments)
        return lines
    assert isinstance(value, list)
    return [f"{name}:{comment}", *(line for item in value for line in _item(item, indent=indent + "  "))]


def _item(value: Json, *, indent: str) -> list[str]:
    """Write one item of a list, its first key behind the dash."""
    if not isinstance(value, dict) or not value:
        return [f"{indent}- {_flow(value)}"]
    lines = [
        line for key, item in value.items() for line in _entry(key, item, path="", indent=indent + "  ", comments={})
    ]
    return [f"{indent}- {lines[0].lstrip()}", *lines[1:]]


def _fits_in_line(value: Json, *, path: str, comments: Mapping[str, str]) -> bool:
    if not value or not isinstance(value, dict | list):
        return True
    if isinstance(value, dict):
        small = "." in path and not any(commented.startswith(f"{path}.") for commented in comments)
        return small and all(_is_short(item) for item in value.values()) and len(_flow(value)) <= 100
    return all(_is_short(item) for item in value) and len(_flow(value)) <= 80


def _is_short(value: Json) -> bool:
    return not isinstance(value, dict | list) and len(str(value)) <= 24


def _flow(value: Json) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{_text(key)}: {_flow(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(_flow(item) for item in value) + "]"
        case str():
            return _text(value)
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float():
            return pointed(repr(value))
        case _:
            return str(value)


def pointed(number: str) -> str:
    """Write a number that Python has written with a point and a signed exponent: YAML 1.1 takes 1e-5 for text."""
    mantissa, mark, exponent = number.partition("e")
    if not mark:
        return mantissa
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent):+d}"


def _text(value: str) -> str:
    """Write text bare where every reader takes it for the same text, in double quotes otherwise."""
    if _PLAIN.fullmatch(value) and not _RESERVED.fullmatch(value):
        return value
    return '"' + "".join(_escape(character) for character in value) + '"'


def _escape(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return f"\\u{ord(character):04X}" if ord(character) <= 0xFFFF else f"\\U{ord(character):08X}"
