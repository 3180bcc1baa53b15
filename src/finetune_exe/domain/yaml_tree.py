"""A text of settings as a tree of values, each with its place, and the one walk that builds it from YAML's events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from finetune_exe.errors import FineTuneError

if TYPE_CHECKING:
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.events import Event, ScalarEvent

Scalar: TypeAlias = str | int | float | bool | None
Json: TypeAlias = Scalar | list["Json"] | dict[str, "Json"]

_FAULTS = {
    "'\\t'": "a tab stands where YAML wants spaces",
    "<block end>": "this line is not indented as those it belongs to, or a quote or bracket before it is not closed",
    "mapping values are not allowed": "a colon and a space stand inside a value: put the value in quotes",
    "unexpected end of stream": "a quote is opened and never closed",
    "could not find expected ':'": "a key without a colon and a value, or the file ends too early",
}
"""What mistakes readers of YAML mean by their words."""

MOST_ITEMS = 20_000
DEEPEST = 30


class Place(NamedTuple):
    """A line and a column, both counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A value of a configuration."""

    content: Scalar | tuple[Item, ...] | Mapping[str, Item]
    place: Place
    key_place: Place
    """Where its key stands; its own place where it has none."""
    text_in_yaml: bool = False
    """Whether it is a number that readers of YAML 1.1 take for text, as 2e-4 is."""
    quoted: bool = False
    """Whether it is a number or a truth value between quotes."""
    computed: bool = False
    """Whether its value is known only when the program runs; its content is then the text that computes it."""
    size: int = 1
    """Values in it, each counted as often as it is referred to."""

    @property
    def scalar(self) -> Scalar:
        """The value, where it is a single one that is known; else None."""
        single = isinstance(self.content, str | int | float | bool)
        return self.content if single and not self.computed else None  # type: ignore[return-value]  # one that is not computed is a scalar

    def plain(self) -> Json:
        """Give the value without places."""
        if isinstance(self.content, Mapping):
            return {key: item.plain() for key, item in self.content.items()}
        if isinstance(self.content, tuple):
            return [item.plain() for item in self.content]
        return self.content


def leaves(item: Item, name: str = "") -> Iterator[tuple[str, Item]]:
    """Walk all named values, groups before what they hold; [] behind a name stands for the items of a list."""
    if isinstance(item.content, Mapping):
        for key, child in item.content.items():
            path = f"{name}.{key}" if name else key
            yield path, child
            yield from leaves(child, path)
    elif isinstance(item.content, tuple):
        for child in item.content:
            yield from leaves(child, f"{name}[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Twice:
    """A key that is given a second time."""

    key: str
    first: Place
    second: Place


@dataclass(slots=True, kw_only=True)
class Walk:
    """Builds the tree of one document."""

    text: str
    kind: str
    """What the text is: a plan, a configuration."""
    refused: Callable[[str, Place], FineTuneError]
    """Makes the error for what cannot be read."""
    scalar: Callable[[ScalarEvent, Place, Place], Item]
    """Reads a single value, given its place and that of its key."""
    strict: bool = False
    """Refuse anchors, aliases, tags, directives, keys that are no text and keys given twice; `<<` is a key as others.

    Otherwise `<<` takes over what another group holds, and of two equal keys the last one wins.
    """
    most_items: float = MOST_ITEMS
    """Values at most, each counted as often as it is referred to: ten lines of aliases may stand for billions."""
    twice: list[Twice] = field(default_factory=list)
    _events: Iterator[Event] = field(init=False)
    _anchors: dict[str, Item] = field(default_factory=dict)
    _num_items: int = 0

    def document(self) -> Item:
        """Read the text, which is to hold one document.

        Raises:
            FineTuneError: As `refused` makes it.
            YAMLError: The text is no YAML.
        """
        from ruamel.yaml import YAML
        from ruamel.yaml.events import DocumentStartEvent, StreamEndEvent, StreamStartEvent

        events = iter(YAML(typ="safe", pure=True).parse(self.text))
        self._events = self._only_plain(events) if self.strict else events
        event = next(self._events)
        while isinstance(event, StreamStartEvent | DocumentStartEvent):
            event = next(self._events)
        if isinstance(event, StreamEndEvent):
            raise self.refused("the text is empty, or holds nothing but comments", Place(1, 1))
        root = self._item(event, key_place=None, depth=0)
        next(self._events)
        after = next(self._events)
        if not isinstance(after, StreamEndEvent):
            raise self.refused(f"a second document begins; a {self.kind} is one", _place(after))
        return root

    def _only_plain(self, events: Iterator[Event]) -> Iterator[Event]:
        from ruamel.yaml.events import CollectionStartEvent, DocumentStartEvent, NodeEvent, ScalarEvent

        for event in events:
            if isinstance(event, DocumentStartEvent) and (event.version or event.tags):
                raise self.refused(f"a {self.kind} has no % directive", _place(event))
            if isinstance(event, NodeEvent) and event.anchor is not None:
                what = f"anchors (&) and aliases (*) are not used in {self.kind}s; write the value out"
                raise self.refused(what, _place(event))
            if isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None:
                raise self.refused(f"tags (!) are not used in {self.kind}s", _place(event))
            yield event

    def _item(self, event: Event, *, key_place: Place | None, depth: int) -> Item:
        from ruamel.yaml.events import AliasEvent, MappingStartEvent, NodeEvent, ScalarEvent, SequenceStartEvent

        assert isinstance(event, NodeEvent)
        place = _place(event)
        if depth > DEEPEST:
            raise self.refused(f"groups are nested deeper than {DEEPEST}", place)
        self._num_items += 1
        if self._num_items > 2 * self.most_items:  # keys count too
            raise self.refused(f"it holds more than {self.most_items:,} values", place)
        key_place = key_place or place
        match event:
            case AliasEvent():
                known = self._anchors.get(str(event.anchor))
                if known is None:
                    raise self.refused(f"*{event.anchor} refers to what is not there, or to itself", place)
                return replace(known, key_place=key_place)
            case ScalarEvent():
                item = self.scalar(event, place, key_place)
            case SequenceStartEvent():
                children = tuple(self._children(depth))
                size = 1 + sum(child.size for child in children)
                item = Item(content=children, place=place, key_place=key_place, size=size)
            case MappingStartEvent():
                group = self._group(depth)
                size = 1 + sum(child.size for child in group.values())
                item = Item(content=group, place=place, key_place=key_place, size=size)
            case _:
                raise AssertionError(event)
        if item.size > self.most_items:
            raise self.refused(f"written out, it holds more than {self.most_items:,} values", place)
        if event.anchor is not None:
            self._anchors[str(event.anchor)] = item
        return item

    def _children(self, depth: int) -> Iterator[Item]:
        from ruamel.yaml.events import SequenceEndEvent

        while not isinstance(event := next(self._events), SequenceEndEvent):
            yield self._item(event, key_place=None, depth=depth + 1)

    def _group(self, depth: int) -> dict[str, Item]:
        from ruamel.yaml.events import MappingEndEvent

        group: dict[str, Item] = {}
        merged: dict[str, Item] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._item(event, key_place=None, depth=depth + 1)
            name = str(key.content)
            if self.strict:
                self._check_key(key, group.get(name))
            value = self._item(next(self._events), key_place=key.place, depth=depth + 1)
            if isinstance(key.content, tuple | dict):
                continue  # no program has a group for a name
            if name == "<<" and not self.strict:
                sources = value.content if isinstance(value.content, tuple) else (value,)
                for source in sources:
                    if isinstance(source.content, dict):
                        merged = {**source.content, **merged}
                continue
            if name in group:
                self.twice.append(Twice(key=name, first=group[name].key_place, second=key.place))
            group[name] = value
        return {**merged, **group}

    def _check_key(self, key: Item, before: Item | None) -> None:
        if not isinstance(key.content, str):
            raise self.refused("a key must be text; put it in quotes", key.place)
        if before is not None:
            raise self.refused(f"the key {key.content!r} was given before, in line {before.key_place.line}", key.place)


def told(fault: YAMLError) -> tuple[str, Place]:
    """Say in a few words what is no YAML in a text, and where."""
    from ruamel.yaml.error import MarkedYAMLError

    if not isinstance(fault, MarkedYAMLError):
        return " ".join(str(fault).split())[:200], Place(1, 1)
    mark = fault.problem_mark or fault.context_mark
    what = fault.problem or fault.context or "it cannot be read"
    words = next((words for met, words in _FAULTS.items() if met in what), what)
    return words, Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)


def _place(event: Event) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)
