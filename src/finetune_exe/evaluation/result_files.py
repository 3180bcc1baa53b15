"""Files of per-item results: one JSON object a line, with the item, its score and what else is known of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from finetune_exe.errors import FineTuneError

FAULTS_SHOWN = 3
TEXT_KEYS = ("prompt", "reference", "answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Under which names the lines hold what is needed."""

    item: str = "item"
    score: str = "score"
    cluster: str = "cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResult:
    """One line."""

    item: str
    score: float | None
    """None where the file is read for its texts."""
    line: int
    cluster: str | None
    suite: str | None
    length: float | None
    texts: Mapping[str, str]
    """prompt, reference and answer, where they are there."""
    other: Mapping[str, Any]
    """The whole line, for slices."""


def read_results(path: Path, keys: Keys, *, scored: bool = True) -> dict[str, ItemResult]:
    """Read a file of results by item.

    Args:
        path: The file.
        keys: Names of the fields.
        scored: Whether each line needs a score; otherwise it needs an answer and a reference.

    Raises:
        FineTuneError: D07 where it does not exist, E03 where it holds nothing, E04 for all lines that cannot be used.
    """
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except OSError as fault:
        raise FineTuneError(
            "D07",
            what="the file of results cannot be read",
            where=str(path),
            why=fault.strerror or str(fault),
            fix="give a file with one JSON object a line",
        ) from fault
    except UnicodeDecodeError as fault:
        line = fault.object[: fault.start].count(b"\n") + 1
        raise _bad(path, [(line, "it is not UTF-8")]) from fault
    found: dict[str, ItemResult] = {}
    faults: list[tuple[int, str]] = []
    for number, text in enumerate(content.split("\n"), start=1):
        if not text.strip():
            continue
        try:
            result = _read_line(text, number, keys, scored=scored)
        except ValueError as fault:
            faults.append((number, str(fault)))
            continue
        first = found.setdefault(result.item, result)
        if first is not result:
            faults.append((number, f"item {result.item!r} stands at line {first.line} already"))
    if faults:
        raise _bad(path, faults)
    if not found:
        raise FineTuneError(
            "E03",
            what="the file holds no result",
            where=str(path),
            why="there is nothing to compare",
            fix='write one line for each item, as in {"item": "q1", "score": 0.5}',
        )
    return found


def _read_line(line: str, number: int, keys: Keys, *, scored: bool) -> ItemResult:
    try:
        row = json.loads(line, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as fault:
        raise ValueError(f"it is no JSON: {fault.msg} at column {fault.colno}") from None
    if not isinstance(row, dict):
        raise ValueError(f"it is a {type(row).__name__}, not an object")
    item = _field(row, keys.item)
    if not isinstance(item, str | int) or isinstance(item, bool):
        raise ValueError(f"{keys.item!r} is {item!r}, neither a text nor a whole number")
    texts = {key: row[key] for key in TEXT_KEYS if isinstance(row.get(key), str)}
    missing = [key for key in ("answer", "reference") if key not in texts]
    if not scored and missing:
        raise ValueError(f"it has no text {missing[0]!r}")
    cluster, suite = row.get(keys.cluster), row.get("suite")
    if isinstance(cluster, dict | list | float):
        raise ValueError(f"{keys.cluster!r} is {cluster!r}, neither a text nor a whole number")
    return ItemResult(
        item=str(item),
        score=_score(_field(row, keys.score), keys.score) if scored else None,
        line=number,
        cluster=None if cluster is None else str(cluster),
        suite=suite if isinstance(suite, str) else None,
        length=_length(row.get("length")),
        texts=texts,
        other=row,
    )


def _field(row: Mapping[str, Any], key: str) -> Any:
    if key in row:
        return row[key]
    near = get_close_matches(key, [str(name) for name in row], n=1, cutoff=0.5)
    hint = f"; it has {near[0]!r}" if near else f"; it has {', '.join(map(repr, list(row)[:6])) or 'nothing'}"
    raise ValueError(f"it has no {key!r}{hint}")


def _score(value: Any, key: str) -> float:
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, int | float):
        raise ValueError(f"{key!r} is {json.dumps(value)[:40]}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or abs(number) > 1e100:
        raise ValueError(f"{key!r} is not a finite number of ordinary size")
    return number


def _length(value: Any) -> float | None:
    """Take a length only where it is one; nothing depends on it but the correction for length."""
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e15 else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is no number")


def _bad(path: Path, faults: list[tuple[int, str]]) -> FineTuneError:
    shown = "; ".join(f"line {line}: {why}" for line, why in faults[:FAULTS_SHOWN])
    more = f"; and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
    return FineTuneError(
        "E04",
        what=f"{len(faults)} line{'s' if len(faults) > 1 else ''} of the results cannot be used",
        where=str(path),
        why=shown + more,
        fix="correct the lines; an item that no model can be judged on is left out of both files, and several answers "
        "to one item are averaged into one score; other names of the fields: --item KEY --score KEY --cluster KEY",
    )
