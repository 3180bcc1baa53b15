"""Rows of one model in a file that holds several, told by what stands in a field."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.event_logs import Row

VALUES_SHOWN = 8


def select(rows: Sequence[Row], only: Mapping[str, str], *, where: str) -> list[Row]:
    """Keep the rows whose fields hold the wanted values, and those that cannot be read.

    Args:
        rows: Of a file.
        only: The value that each field must hold.
        where: The file, for the message.

    Raises:
        FineTuneError: E03 where no row holds them.
    """
    kept = [
        row for row in rows
        if row.fault is not None or all(_said(row.content.get(key)) == value for key, value in only.items())
    ]  # fmt: skip
    if not any(row.fault is None for row in kept):
        raise _nothing_chosen(rows, only, where)
    return _columns_from_zero(kept)


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _columns_from_zero(rows: Sequence[Row]) -> list[Row]:
    """Number the columns of promptfoo's table (a prompt of a provider) from 0, so that those of two models pair."""
    numbers = sorted({_column(row) for row in rows} - {-1})
    return [
        row._replace(content={**row.content, "item": f"{row.content['testIdx']}/{numbers.index(_column(row))}"})
        if _column(row) >= 0 else row
        for row in rows
    ]  # fmt: skip


def _column(row: Row) -> int:
    """Give the number of a column of promptfoo's table; -1 for other rows."""
    number = row.content.get("promptIdx")
    return number if isinstance(number, int) and number >= 0 and "testIdx" in row.content else -1


def _nothing_chosen(rows: Sequence[Row], only: Mapping[str, str], where: str) -> FineTuneError:
    asked = " and ".join(f"{key}={value}" for key, value in only.items())
    held = []
    for key in only:
        values = Counter(_said(row.content[key])[:40] for row in rows if key in row.content)
        shown = ", ".join(f"{value} ({count})" for value, count in values.most_common(VALUES_SHOWN))
        more = f" and {len(values) - VALUES_SHOWN} others" if len(values) > VALUES_SHOWN else ""
        held.append(f"{key}: {shown}{more}" if values else f"no row has the field {key!r}")
    return FineTuneError(
        "E03",
        what=f"no row of the file has {asked}",
        where=where,
        why=f"rows there are by value, {'; '.join(held)}",
        fix="name a field and a value that are there: --a KEY=VALUE --b KEY=VALUE",
    )
