"""YAML as training programs write it: version 1.1's words, anchors and merges, each value with its place."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from finetune_exe.domain.unreadable import unreadable
from finetune_exe.domain.yaml_tree import Item, Place, Scalar, Twice, Walk, told
from finetune_exe.errors import FineTuneError

if TYPE_CHECKING:
    from ruamel.yaml.events import ScalarEvent

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


def read_yaml(text: str, *, where: str) -> tuple[Item, tuple[Twice, ...]]:
    """Read the first document of a text, and name the keys that are given twice.

    Raises:
        FineTuneError: C15 where it is no YAML, refers to itself, or would grow beyond all bounds.
    """
    from ruamel.yaml.error import YAMLError

    def refused(what: str, place: Place) -> FineTuneError:
        return unreadable(what, where=where, place=place)

    walk = Walk(text=text, kind="configuration", refused=refused, scalar=_scalar)
    try:
        return walk.document(), tuple(walk.twice)
    except YAMLError as fault:
        what, place = told(fault)
        raise refused(f"it is no YAML: {what}", place) from fault


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


def _scalar(event: ScalarEvent, place: Place, key_place: Place) -> Item:
    bare = event.implicit[0]
    value, text_in_yaml = resolve(event.value) if bare else (event.value, False)
    meant = resolve(event.value)[0] if not bare and event.style in ("'", '"') else None
    return Item(
        content=value, place=place, key_place=key_place, text_in_yaml=text_in_yaml,
        quoted=isinstance(meant, int | float),
        computed=isinstance(value, str) and bool(_COMPUTED.search(value)),
    )  # fmt: skip
