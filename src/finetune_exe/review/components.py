"""torchtune's components: what each is called with."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from finetune_exe.domain.review import ConfigurationFinding
from finetune_exe.domain.yaml_tree import Item
from finetune_exe.review.configuration import Configuration
from finetune_exe.review.findings import finding


def check_components(configuration: Configuration) -> Iterator[ConfigurationFinding]:
    """Hold keys beside each `_component_` against its parameters, and the outermost against those of the recipes."""
    peer = configuration.peer
    if peer.name != "torchtune" or not isinstance(configuration.root.content, Mapping):
        return
    referred = {word for _, item in configuration.leaves if item.computed for word in _references(str(item.content))}
    recipe = [key for key in peer.types if "." not in key and not key.endswith("()")]
    for name, item in configuration.root.content.items():
        if name in recipe or name in referred:
            continue
        near = difflib.get_close_matches(name, recipe, n=1, cutoff=0.8)
        meant = near[0] if near and near[0] not in configuration.settings else None
        yield finding(
            "misspelt_key" if meant else "unknown_key", "error" if meant else "warning", key=name, place=item.key_place,
            what=f"{name} is read by no recipe of {peer.title}{f'; did you mean {meant}?' if meant else ''}",
            why="it is ignored without a word",
            fix=f"write {meant}: instead" if meant else f"remove {name}, or refer to it by ${{{name}}}",
            source=f"the recipes of {peer.title}",
        )  # fmt: skip
    for _, item in configuration.leaves:
        if isinstance(item.content, Mapping) and "_component_" in item.content:
            yield from _component(configuration, item.content)


def _component(configuration: Configuration, group: Mapping[str, Item]) -> Iterator[ConfigurationFinding]:
    named = group["_component_"].scalar
    last = str(named).rpartition(".")[2]
    parameters = configuration.peer.types.get(f"{last}()")
    if not str(named).startswith("torchtune.") or not isinstance(parameters, tuple) or "**" in parameters:
        return
    for name, item in group.items():
        if name == "_component_" or name in parameters:
            continue
        near = difflib.get_close_matches(name, parameters, n=1, cutoff=0.6)
        yield finding(
            "misspelt_key" if near else "unknown_key", "error", key=name, place=item.key_place,
            what=f"{last} takes no {name}{f'; did you mean {near[0]}?' if near else ''}",
            why="torchtune stops when it makes the component",
            fix=f"write {near[0]}: instead" if near else f"remove {name}",
            source=f"the components of {configuration.peer.title}",
        )  # fmt: skip


def _references(text: str) -> Iterator[str]:
    yield from (part.split("}")[0].split(".")[0].strip() for part in text.split("${")[1:])
