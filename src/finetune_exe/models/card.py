"""What a model says of itself: the head of its card, README.md, and the licence in it or in a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from finetune_exe.knowledge.licenses import license_called
from finetune_exe.models.gguf_header import GgufHeader

_MOST_HEAD = 100_000
"""Bytes in which a card's head is looked for; cards of a megabyte hold tables of results behind it."""
_LONGEST_NAME = 80
"""Characters of a licence's name; files that have the whole text in its place name none."""


def read_card_head(folder: Path) -> dict[str, str] | None:
    """Give the top keys of the head of a folder's README.md; what is indented or listed below a key is its value.

    Returns:
        The keys, none where the card has no head; None where there is no card.
    """
    try:
        with (folder / "README.md").open("rb") as file:
            text = file.read(_MOST_HEAD).decode("utf-8", errors="replace")
    except OSError:
        return None
    head = text.split("---")[1] if text.startswith("---") and text.count("---") > 1 else ""
    values: dict[str, str] = {}
    key = ""
    for line in head.splitlines():
        if line.startswith((" ", "-")) or ":" not in line:
            values[key] = values.get(key, "") + line.strip()
        else:
            key, _, value = line.partition(":")
            values[key.strip()] = value.split(" #")[0].strip().strip("'\"[]{}").replace("null", "").replace("~", "")
    return values


def folder_license(folder: Path) -> str | None:
    """Give the licence that a folder's card names, by the name it has here; None where it names none."""
    return _named(read_card_head(folder) or {}, "license")


def gguf_license(header: GgufHeader) -> str | None:
    """Give the licence that a GGUF file names."""
    return _named({name: str(value) for name, value in header.fields.items()}, "general.license")


def _named(values: Mapping[str, str], key: str) -> str | None:
    """Read a licence; "other" has its name behind it: license_name, general.license.name."""
    given = values.get(key, "").removeprefix("-").strip()
    if given.casefold() in ("", "other", "unknown"):
        given = (values.get(f"{key}_name") or values.get(f"{key}.name") or "").strip()
    return license_called(given) if given and given.isprintable() and len(given) <= _LONGEST_NAME else None
