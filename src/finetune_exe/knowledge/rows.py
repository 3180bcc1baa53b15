"""Reading of the fact tables that ship with the package."""

from __future__ import annotations

import json
import tomllib
from importlib.resources import files
from typing import TypeVar

import msgspec

from finetune_exe.domain.document import Value

Row = TypeVar("Row")


def read_rows(file: str, *, key: str, kind: type[Row]) -> tuple[Row, ...]:
    """Read the array of tables `key` of a TOML file of this package as typed rows."""
    content = tomllib.loads(files("finetune_exe.knowledge").joinpath(file).read_text("utf-8"))
    return tuple(msgspec.convert(content[key], list[kind], dec_hook=_value))  # type: ignore[valid-type]


def _value(kind: type, content: object) -> Value:
    """Validate a table inside a row that is a value of the domain."""
    assert issubclass(kind, Value), kind
    return kind.model_validate_json(json.dumps(content))


def compact(name: str) -> str:
    """Reduce a name to its lower-case letters, digits and dots, so that spellings compare equal."""
    return "".join(character for character in name.lower() if character.isalnum() or character == ".")
