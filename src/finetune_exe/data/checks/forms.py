"""Answers that lack the form nearly all others have: a mark at either end, or data or a program that can be read."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from finetune_exe.data.checks.check import DataCheck, Hit
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.programs import begins_as_program, is_program, read_program

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from ruamel.yaml import YAML

    from finetune_exe.data.checks.facts import Facts


class Structure(IntEnum):
    """Whether an answer is data that a program reads, or a program."""

    NONE = 0
    JSON = 1
    YAML = 2
    PYTHON = 3
    BROKEN = 4
    """It begins as one of them does, and cannot be read."""


class Form(NamedTuple):
    """What an answer begins and ends with."""

    first: int
    """Hash of its first word."""
    last: int
    """Hash of the first word of its last line and of whether more follows; 0 for a single line."""
    structure: Structure


NO_FORM = Form(0, 0, Structure.NONE)
_PLAIN = 1
"""What stands for a word that is no mark, as sentences begin with."""
_LOOKED_AT = 24
"""Characters that hold a mark; a longer first word is no mark."""
_YAML = re.compile(r"[\w-]{1,40}:(?: [^\n]*)?\n(?:[\w-]{1,40}:(?: |\n|\Z)|\s+\S|- )")
_READ_AS: dict[int, str] = {Structure.JSON: "JSON", Structure.YAML: "YAML", Structure.PYTHON: "Python"}
_MAX_PARSED = 20_000
"""Longer answers are left out, since a parser takes its time: three rows in a thousand of public files are longer."""
_MIN_ROWS, _MIN_SHARE, _MIN_READ, _MIN_BROKEN = 50, 0.97, 0.9, 0.5
"""Answers that show a custom, and the share of them that must have a mark, or be data that can be read; of half of
them that can be read, those are told that begin so and cannot."""


def form_of(answer: str) -> Form:
    """Take the form of an answer that has no white space around it."""
    if not answer:
        return NO_FORM
    start = answer.rfind("\n") + 1
    last = _hash(answer[start : start + _LOOKED_AT], more=True) if start else 0
    return Form(_hash(answer[:_LOOKED_AT]), last, _structure(answer))


def _hash(beginning: str, *, more: bool = False) -> int:
    words = beginning.split(None, 1)
    if not words:
        return 0
    if words[0].isalpha() and (len(words[0]) == 1 or not words[0].isupper()):
        return _PLAIN
    said = words[0] + (" +" if more and len(words) > 1 else "")
    return zlib.crc32(said.encode("utf-8", "surrogatepass")) or _PLAIN


def _structure(answer: str) -> Structure:
    first = answer[0]
    if first in "{[":
        return Structure.JSON if _is_json(answer) else Structure.BROKEN
    if ":" in answer[:_LOOKED_AT] and _YAML.match(answer) is not None and len(answer) <= _MAX_PARSED:
        return Structure.YAML if _is_yaml(answer) else Structure.BROKEN
    if is_program(answer):
        return Structure.PYTHON
    if begins_as_program(answer) and read_program(answer) is None:
        return Structure.BROKEN
    return Structure.NONE


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_yaml(text: str) -> bool:
    from ruamel.yaml.error import YAMLError

    try:
        return isinstance(_yaml_reader().load(text), dict)
    except (YAMLError, ValueError, RecursionError):
        return False


@cache
def _yaml_reader() -> YAML:
    from ruamel.yaml import YAML

    return YAML(typ="safe")


def _unlike_others(facts: Facts) -> Iterator[Hit]:
    """Find answers without a form that nearly all others have."""
    import numpy as np

    from finetune_exe.data.checks.label_names import label_counts

    answered = facts.firsts != 0
    if answered.sum() < _MIN_ROWS or label_counts(facts) is not None:
        return
    odd: dict[int, str] = {}
    for values, what in (
        (facts.firsts, "begins with the same word"),
        (facts.lasts, "has a last line of the same kind"),
    ):
        usual = _customary(values[answered])
        if usual > _PLAIN:
            for place in np.flatnonzero(answered & (values != usual)).tolist():
                odd.setdefault(place, f"nearly every other answer {what}")
    structure = _customary(facts.structures[answered], _MIN_BROKEN)
    if structure in _READ_AS:
        usual = bool(_customary(facts.structures[answered], _MIN_READ))
        unlike = facts.structures != structure if usual else facts.structures == Structure.BROKEN
        for place in np.flatnonzero(answered & unlike).tolist():
            odd[place] = f"{'nearly all' if usual else 'most'} other answers can be read as {_READ_AS[structure]}"
    for place in sorted(odd):
        yield Hit(int(facts.index[place]), odd[place])


def _customary(values: NDArray[np.integer], least: float = _MIN_SHARE) -> int:
    """Give the value that nearly all have, or 0."""
    import numpy as np

    found, counts = np.unique(values, return_counts=True)
    place = int(np.argmax(counts))
    return int(found[place]) if counts[place] >= least * len(values) else 0


_USUAL = [asked(f"Who is number {number}?", json.dumps({"name": f"boat {number}"})) for number in range(60)]

CHECKS = (
    DataCheck(
        code="unlike_others",
        severity="warning",
        message="the answer lacks the form that nearly all others have",
        fix="write it as the others are written: their first word or last line, or data or a program that can be read",
        find=_unlike_others,
        example=[*_USUAL, asked("Who is number 61?", 'Here it is: {"name": "boat 61"}')],
        counterexample=[*_USUAL, asked("Who is number 61?", '{"name": null}')],
    ),
)
