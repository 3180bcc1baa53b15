"""A configuration as a tree of values, each with its place in the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from finetune_exe.domain.values import Scalar
from finetune_exe.domain.yaml_text import Json, Place

MOST_ITEMS = 20_000
DEEPEST = 30


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
        return self.content if single and not self.computed else None  # type: ignore[return-value]

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
