"""Commands that start a training, as they stand in a shell script or are typed: their options with their places."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from finetune_exe.domain.yaml_of_programs import resolve
from finetune_exe.domain.yaml_tree import Item, Place, Twice

_PROGRAMS = (
    ("ms-swift", re.compile(r"(^|[\s/])swift\s+(sft|pt|rlhf)\b|swift/cli/(sft|pt|rlhf)\.py")),
    ("llamafactory", re.compile(r"(^|[\s/])(llamafactory-cli|lmf) train\b|src/train(_bash)?\.py|factory/launcher\.py")),
    ("trl", re.compile(r"(^|[\s/])trl\s+(sft|dpo|grpo|kto|reward|rloo)\b|(trl|examples)/scripts/\w+\.py")),
    ("axolotl", re.compile(r"(^|[\s/])axolotl\s+(train|preprocess)\b|axolotl\.cli\.train")),
    ("transformers", re.compile(r"\brun_(clm|mlm|seq2seq|summarization|translation|glue)\w*\.py")),
)  # fmt: skip
"""How a command line shows which program it starts."""
_STARTED = re.compile(r"\.py$|^(sft|pt|rlhf|train|dpo|grpo|kto|reward|rloo)$")
_BREAKS = {";", "&&", "||", "|", "&"}
_OPTION = re.compile(r"--?[A-Za-z][\w.-]*(=.*)?", re.DOTALL)


class Word(NamedTuple):
    """A word of a command with the place where it begins."""

    text: str
    place: Place
    computed: bool
    """Whether the shell puts something into it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """The options of a command that starts a training."""

    tool: str
    root: Item
    twice: tuple[Twice, ...]


def read_commands(text: str) -> tuple[Command, ...]:
    """Find the commands of a shell script that start a training."""
    commands = []
    for words in _commands(text):
        line = " ".join(word.text for word in words)
        tool = next((name for name, pattern in _PROGRAMS if pattern.search(line)), None)
        if tool is not None:
            root, twice = _options(words)
            if root.content:
                commands.append(Command(tool=tool, root=root, twice=twice))
    return tuple(commands)


def _commands(text: str) -> Iterator[list[Word]]:
    words: list[Word] = []
    for word in _words(text):
        if word.text in _BREAKS or word.text == "\n":
            if words:
                yield words
            words = []
        else:
            words.append(word)
    if words:
        yield words


def _words(text: str) -> Iterator[Word]:
    """Split a script as a shell does, as far as options go: quotes, escapes, comments and continued lines."""
    line, start, at = 1, 0, 0
    current, place, computed, quote = "", None, False, ""
    while at < len(text):
        character = text[at]
        here = Place(line, at - start + 1)
        if character == "\\" and quote != "'":
            following = text[at + 1 : at + 2]
            if following == "\n":
                line, start = line + 1, at + 2
            else:
                current, place = current + following, place or here
            at += 2
            continue
        if character == "\n":
            line, start = line + 1, at + 1
        if quote:
            if character == quote:
                quote = ""
            else:
                current, computed = current + character, computed or (character in "$`" and quote == '"')
        elif character in "'\"":
            quote, place = character, place or here
        elif character == "#" and place is None:
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
            continue
        elif character.isspace() or character in ";|&":
            if place is not None:
                yield Word(current, place, computed)
            current, place, computed = "", None, False
            if character == "\n" or character in ";|&":
                yield Word("\n" if character == "\n" else ";", here, False)
        else:
            current, place, computed = current + character, place or here, computed or character in "$`"
        at += 1
    if place is not None:
        yield Word(current, place, computed)


def _options(words: Sequence[Word]) -> tuple[Item, tuple[Twice, ...]]:
    """Read `--name value`, `--name=value` and a bare `--name`; several values are a list."""
    group: dict[str, Item] = {}
    twice: list[Twice] = []
    number = 0
    # options before the training program belong to what starts it, such as torchrun
    first = next((number for number, word in enumerate(words) if _STARTED.search(word.text)), 0)
    words = words[first + 1 :]
    while number < len(words):
        word = words[number]
        number += 1
        if not _OPTION.fullmatch(word.text) or not word.text.startswith("--"):
            continue
        name, equals, attached = word.text[2:].partition("=")
        values = [Word(attached, word.place, word.computed)] if equals else []
        while not equals and number < len(words) and not _is_option(words[number].text):
            if words[number].text != "...":
                values.append(words[number])
            number += 1
        items = tuple(_item(value, word.place) for value in values)
        if not items:
            item = Item(content=True, place=word.place, key_place=word.place)
        elif len(items) == 1:
            item = items[0]
        else:
            item = Item(content=items, place=items[0].place, key_place=word.place, size=1 + len(items))
        name = name if "." in name else name.replace("-", "_")
        if name in group:
            twice.append(Twice(key=name, first=group[name].key_place, second=word.place))
        group[name] = item
    place = words[0].place if words else Place(1, 1)
    return Item(content=group, place=place, key_place=place, size=1 + len(group)), tuple(twice)


def _is_option(text: str) -> bool:
    return bool(_OPTION.fullmatch(text)) and not isinstance(resolve(text)[0], int | float)


def _item(word: Word, key_place: Place) -> Item:
    content = word.text if word.computed else resolve(word.text)[0]
    return Item(content=content, place=word.place, key_place=key_place, computed=word.computed)
