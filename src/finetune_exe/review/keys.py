"""Keys that the program does not know, no longer knows, is given twice, or is given a value of the wrong kind."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping

from finetune_exe.domain.review import ConfigurationFinding
from finetune_exe.domain.setting_line import written
from finetune_exe.domain.values import Scalar
from finetune_exe.domain.yaml_tree import Item
from finetune_exe.knowledge.peers import Peer, Types
from finetune_exe.review.configuration import Configuration
from finetune_exe.review.findings import finding

_TRUTH = {"true", "false", "yes", "no", "on", "off", "1", "0", "y", "n", "t", "f", "auto", "none", "null", ""}
_PART = 4
"""Letters from which the beginning of one known key alone is taken for that key."""
_NEAR = 0.8
"""Likeness from which an unknown key is taken for a misspelt one; below it, many keys are alike by chance."""


def check_keys(configuration: Configuration) -> Iterator[ConfigurationFinding]:
    """Look at every key by itself."""
    peer = configuration.peer
    for twice in configuration.twice:
        yield finding(
            "key_given_twice", "error", key=twice.key, place=twice.second,
            what=f"{twice.key} was given before, in line {twice.first.line}",
            why="of two equal keys one silently wins, in most readers the last",
            fix=f"keep one of lines {twice.first.line} and {twice.second.line}", source="YAML 1.2, 3.2.1.3",
        )  # fmt: skip
    if not peer.types or peer.name == "torchtune":
        return  # torchtune's recipes read what they like: see components
    given = {name for name, _ in configuration.leaves}
    opened = bool(peer.open_with & given)
    for name, item in configuration.leaves:
        group, _, last = name.rpartition(".")
        if group and (group not in peer.groups or last in ("()", "**")):
            continue
        short = last.removeprefix(peer.old_prefix.get(group, "\0"))
        if short != last and f"{group}.{short}" in peer.types:
            continue
        if name in peer.renamed or name in peer.deprecated:
            yield from _renamed(configuration, name, item)
        elif name in peer.types:
            yield from _type(configuration, name, item, peer.types[name])
        elif not opened and not (configuration.form == "python" and _is_open(configuration, group)):
            yield from _unknown(configuration, name, item, given)


def _is_open(configuration: Configuration, group: str) -> bool:
    """Say whether the call of a script takes more than is known: loading a model passes on what it does not know."""
    return group in ("model", "collator", "responses", "") or (configuration.peer.name == "unsloth" and group != "lora")


def _renamed(configuration: Configuration, name: str, item: Item) -> Iterator[ConfigurationFinding]:
    peer = configuration.peer
    row = peer.renamed.get(name)
    if item.content is None or item.content is False:
        return
    if row is None:
        yield finding(
            "deprecated_key", "note", key=name, place=item.key_place, what=f"{name} is deprecated in {peer.title}",
            why="it still works, and will be removed", fix=peer.deprecated[name].strip(), source=peer.title,
        )  # fmt: skip
        return
    last = name.rpartition(".")[2]
    gone = name not in peer.types or row.stops
    value = row.value if row.value is not None else item.scalar
    new = row.to
    shown = written(configuration.form, new, value) if new and value is not None and " " not in new else new
    fix = f"write {shown} instead" if new else f"remove {last}"
    refuses = peer.unknown != "ignored" or row.stops
    deed = "still takes it" if not gone else "refuses to start with it" if refuses else "ignores it"
    yield finding(
        "deprecated_key", "warning" if gone else "note", key=name, place=item.key_place,
        what=f"{last} is {'gone' if gone else 'deprecated'} since {row.since}", why=f"{peer.title} {deed}",
        fix=f"{fix}{f' ({row.note})' if row.note else ''}", source=peer.title,
    )  # fmt: skip


def _unknown(configuration: Configuration, name: str, item: Item, given: set[str]) -> Iterator[ConfigurationFinding]:
    peer = configuration.peer
    group, _, last = name.rpartition(".")
    whole = _shortened(configuration, name)
    if whole is not None:
        yield _abbreviated(configuration, name, whole, item, twice=whole in given)
        return
    meant = nearest(last, peer, group, given)
    deed = "it is ignored without a word" if peer.unknown == "ignored" else f"an unknown key is {peer.unknown}"
    if meant is not None:
        yield finding(
            "misspelt_key", "error", key=name, place=item.key_place,
            what=f"{last} is no key of {peer.title}; did you mean {meant}?",
            why=f"{deed}, and what it was to set stays at its default" if peer.unknown == "ignored" else deed,
            fix=_written_again(configuration, meant, item), source=f"the keys of {peer.title}",
        )  # fmt: skip
        return
    refused = peer.unknown == "refused"
    yield finding(
        "unknown_key", "error" if refused else "warning", key=name, place=item.key_place,
        what=f"{last} is no key of {peer.title}", why=deed,
        fix=f"remove {last}, or say what it is for in that version's words", source=f"the keys of {peer.title}",
    )  # fmt: skip


def _shortened(configuration: Configuration, name: str) -> str | None:
    """Give the one key that begins with a name, where the program's parser takes such a beginning for the whole."""
    if configuration.form != "arguments" and configuration.peer.name != "ms-swift":
        return None
    whole = [key for key in configuration.peer.types if key.startswith(name)]
    return whole[0] if len(whole) == 1 else None


def _abbreviated(
    configuration: Configuration, name: str, whole: str, item: Item, *, twice: bool
) -> ConfigurationFinding:
    return finding(
        "shortened_key", "error" if twice else "warning", key=name, place=item.key_place,
        what=f"{name} is taken for {whole}{', which is given besides' if twice else ''}",
        why="the parser takes the beginning of a name for the whole, and the last one given wins",
        fix=_written_again(configuration, whole, item) if not twice else f"remove {name}",
        source="Python argparse, allow_abbrev",
    )  # fmt: skip


def nearest(last: str, peer: Peer, group: str, given: set[str]) -> str | None:
    """Give the known key that a name is a misspelling of; none that the file has besides."""
    prefix = f"{group}." if group else ""
    beside = {
        key.removeprefix(prefix): key for key in peer.types
        if key.startswith(prefix) and "." not in key.removeprefix(prefix) and not key.endswith("()")
    }  # fmt: skip
    plain = {re.sub(r"[^a-z0-9]", "", key.lower()): key for key in beside}
    same = plain.get(re.sub(r"[^a-z0-9]", "", last.lower()))
    if same is not None:
        return same
    longer = [key for key in beside if len(last) >= _PART and key.startswith(last)]
    if len(longer) == 1:
        return longer[0]
    near = difflib.get_close_matches(last, beside, n=1, cutoff=_NEAR)
    taken = bool(near) and f"{prefix}{near[0]}" in given and abs(len(near[0]) - len(last)) > 2
    return near[0] if near and len(last) > 3 and not taken else None


def _written_again(configuration: Configuration, key: str, item: Item) -> str:
    value = item.scalar
    if value is None or isinstance(item.content, Mapping | tuple):
        return f"call it {key}"
    return f"write {written(configuration.form, key, value)}"


def _type(configuration: Configuration, name: str, item: Item, types: Types) -> Iterator[ConfigurationFinding]:
    peer = configuration.peer
    if item.computed or item.content is None:
        return
    if isinstance(types, tuple):
        yield from _choice(configuration, name, item, types)
        return
    words = set(types.split("|"))
    if "any" in words or "str" in words or not words:
        return
    wrong = _wrong(item.content, words)
    if wrong:
        yield finding(
            "wrong_type", "error", key=name, place=item.place,
            what=f"{name} is {_shown(item)}, and takes {_expected(words)}",
            why=f"{peer.title} stops at it, or computes with something else", fix=f"give {name} {_expected(words)}",
            source=f"the types of {peer.title}",
        )  # fmt: skip
        return
    number = (
        {"int", "float"} & words and isinstance(item.content, int | float | str) and not isinstance(item.content, bool)
    )
    text = item.quoted or (item.text_in_yaml and peer.yaml_1_1 and configuration.form == "yaml")
    if number and text and item.quoted == isinstance(item.content, str):
        yield from _number_as_text(configuration, name, item)


def _number_as_text(configuration: Configuration, name: str, item: Item) -> Iterator[ConfigurationFinding]:
    peer = configuration.peer
    value = float(str(item.content))
    number = f"{value:.10f}".rstrip("0") if 1e-9 < abs(value) < 1 else f"{value:g}"
    last = name.rpartition(".")[2]
    good = {"json": f'"{last}": {number}', "python": f"{last}={number}"}.get(configuration.form, f"{last}: {number}")
    stops = peer.strict_numbers and item.quoted
    yield finding(
        "number_as_text", "error" if stops else "warning", key=name, place=item.place,
        what=f"{name} is the text {item.content}, not a number",
        why="it fails in the first comparison, after the model is loaded"
        if stops
        else f"{peer.title} turns it into a number, but other readers of the same file do not",
        fix=f"write {good}, without quotes", source="huggingface/transformers TrainingArguments; YAML 1.1, float",
    )  # fmt: skip


def _choice(
    configuration: Configuration, name: str, item: Item, choices: tuple[str, ...]
) -> Iterator[ConfigurationFinding]:
    value = item.content
    if not isinstance(value, str) or value in choices or value.lower() in (choice.lower() for choice in choices):
        return
    if not value or value in ("null", "none", "None"):
        return
    near = difflib.get_close_matches(value, choices, n=1, cutoff=0.6)
    last = name.rpartition(".")[2]
    yield finding(
        "wrong_choice", "error", key=name, place=item.place, what=f"{last} is {value!r}, which is none of its values",
        why=f"{configuration.peer.title} knows {', '.join(choices[:12])}",
        fix=f"write {written(configuration.form, last, near[0] if near else choices[0])}"
        if near
        else f"take one of {', '.join(choices[:12])}",
        source=f"the types of {configuration.peer.title}",
    )  # fmt: skip


def _wrong(content: Scalar | tuple[Item, ...] | Mapping[str, Item], words: set[str]) -> bool:
    """Say whether no reading of a value is of these kinds; programs turn "4" and 4.0 into 4."""
    if isinstance(content, Mapping):
        return words <= {"int", "float", "bool", "list"}
    if isinstance(content, tuple):
        return words <= {"int", "float", "bool"}
    if isinstance(content, bool):
        return False
    if isinstance(content, int | float):
        fraction = isinstance(content, float) and content != int(content) if content == content else True
        return words == {"int"} and fraction
    text = str(content).strip()
    if words <= {"bool"}:
        return text.lower() not in _TRUTH
    if words <= {"int", "float", "bool"} and text.lower() not in _TRUTH:
        return not _is_number(text)
    return False


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _expected(words: set[str]) -> str:
    names = {"int": "a whole number", "float": "a number", "bool": "true or false", "list": "a list", "dict": "a group"}
    return " or ".join(names[word] for word in ("int", "float", "bool", "list", "dict") if word in words)


def _shown(item: Item) -> str:
    if isinstance(item.content, Mapping):
        return "a group"
    if isinstance(item.content, tuple):
        return "a list"
    return f"{item.content!r}"[:60]
