"""The part of YAML 1.2 that plans are written in: groups, lists and scalars, each with its place in the text.

Left out on purpose: anchors, aliases, tags, directives, several documents, keys that are no text, keys given twice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from finetune_exe.domain.yaml_tree import Item, Json, Place, Scalar, Walk, told
from finetune_exe.errors import FineTuneError

if TYPE_CHECKING:
    from ruamel.yaml.events import ScalarEvent

_INT = re.compile(r"[-+]?[0-9]{1,300}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_PLAIN = re.compile(r"[A-Za-z_/]([A-Za-z0-9_/.+() -]*[A-Za-z0-9_/.+()])?")
_RESERVED = re.compile(r"y|n|yes|no|on|off|true|false|null|_+", re.IGNORECASE)
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def parse_yaml(text: str, *, where: str) -> Item:
    """Read one document.

    Raises:
        FineTuneError: C01 with where:line:column, where the text is no YAML or uses what is left out here.
    """
    from ruamel.yaml.error import YAMLError

    def refused(what: str, place: Place) -> FineTuneError:
        return FineTuneError(
            "C01",
            what=what,
            where=f"{where}:{place.line}:{place.column}",
            why="a plan is plain YAML 1.2: groups, lists, numbers and text, each key once, indented with spaces",
            fix="correct that line",
        )

    walk = Walk(text=text, kind="plan", refused=refused, scalar=_scalar, strict=True, most_items=math.inf)
    try:
        return walk.document()
    except YAMLError as fault:
        raise refused(*told(fault)) from fault


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


def _scalar(event: ScalarEvent, place: Place, key_place: Place) -> Item:
    content = _resolve(event.value) if event.implicit[0] else event.value
    return Item(content=content, place=place, key_place=key_place)


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
